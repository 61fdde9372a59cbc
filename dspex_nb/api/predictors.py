"""`dx.Predict` and `dx.ChainOfThought`: a signature made callable, in the session in force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from dspex_nb import modules
from dspex_nb.adapters import get_adapter
from dspex_nb.api.mapping import check_choice, iter_mapped, run_rows
from dspex_nb.api.programs import program_of, refuse_unnamed
from dspex_nb.api.sessions import session
from dspex_nb.api.signatures import as_signature
from dspex_nb.predictions import Prediction
from dspex_nb.scopes import Scope, new_run_id

_OPTIONS = ("config", "demos", "lm", "adapter", "rollout_id", "temperature", "max_tokens", "n")


class _Callable:
    """The session-reading calls that both predictors share."""

    signature: Any

    def __call__(self, *unnamed: Any, **inputs: Any) -> Prediction:
        """Run on one row of inputs, each given by its name.

        DSPy's call options are taken too where no input has their name: `config`, `demos`, `rollout_id`,
        `temperature`, `max_tokens`, `n`.

        Raises:
            MissingInputError: An input without a default is not given, or one is given without its name.
            LMError: The call failed.
            AdapterParseError: The answer does not hold the output fields.
        """
        refuse_unnamed(type(self).__name__, unnamed, list(self.signature.inputs))
        now, options = session(), self._options(inputs)
        prediction: Prediction = self.call(inputs, session=now, scope=Scope(new_run_id(), now.bus), **options)  # type: ignore[attr-defined]
        return prediction

    async def acall(self, *unnamed: Any, **inputs: Any) -> Prediction:
        """Run on one row of inputs without blocking the running event loop."""
        refuse_unnamed(type(self).__name__, unnamed, list(self.signature.inputs))
        now, options = session(), self._options(inputs)
        scope = Scope(new_run_id(), now.bus)
        prediction: Prediction = await self.acall_in(inputs, session=now, scope=scope, **options)  # type: ignore[attr-defined]
        return prediction

    def messages(self, *, adapter: Any = None, **inputs: Any) -> list[dict[str, Any]]:
        """Return the exact prompt for these inputs."""
        written: list[dict[str, Any]] = self.messages_in(inputs, session=session(), adapter=adapter)  # type: ignore[attr-defined]
        return written

    def parse(self, text: str, *, adapter: Any = None) -> dict[str, Any]:
        """Return the typed fields that a model's answer `text` means.

        Raises:
            AdapterParseError: The answer does not hold them.
        """
        read: dict[str, Any] = self.parse_in(text, session=session(), adapter=adapter)  # type: ignore[attr-defined]
        return read

    def batch(
        self,
        rows: Any,
        n_jobs: int | None = None,
        return_as: Literal["list", "generator"] = "list",
        on_error: Literal["raise", "keep"] = "raise",
        on_progress: Any = None,
    ) -> list[Any] | Iterator[Any]:
        """Run on many rows, in their order.

        Args:
            rows: Dicts, examples, a DataFrame, or the path of a CSV, JSONL or Parquet file.
            n_jobs: Rows in flight; None and -1 mean the LM's `max_concurrency`.
            return_as: `"list"`, or `"generator"` to take each result as soon as it and those before it are ready.
            on_error: `"raise"` stops at the first error; `"keep"` puts the error in the row's place.
            on_progress: Called with each event.

        Raises:
            DataError: A column that the signature needs is missing.
            Cancelled: The user pressed ■; answers already received are in the cache.
        """
        check_choice("return_as", return_as, ("list", "generator"))
        run = iter_mapped if return_as == "generator" else run_rows
        results = run(program_of(self), rows, n_jobs=n_jobs, on_error=on_error, on_progress=on_progress)
        values = (result.error if result.error is not None else result.prediction for result in results)
        return values if return_as == "generator" else list(values)

    def _options(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {name: inputs.pop(name) for name in _OPTIONS if name in inputs and name not in self.signature.inputs}


class Predict(_Callable, modules.Predict):
    """A signature made callable: one prompt, one answer, typed fields.

    Args:
        signature: A `dx.Signature`, its string form, or a `dspy.Signature` class.
        adapter: `"chat"`, `"json"`, `"compact"`; None means the session's, else the LM's own.
        **lm_options: `temperature`, `max_tokens`, `n`, … for every call of this predictor.
    """

    def __init__(self, signature: Any, adapter: Any = None, **lm_options: Any) -> None:
        super().__init__(as_signature(signature), _known(adapter), **lm_options)


class ChainOfThought(_Callable, modules.ChainOfThought):
    """A signature made callable that reasons first: adds a `reasoning` output before the others."""

    def __init__(self, signature: Any, adapter: Any = None, **lm_options: Any) -> None:
        super().__init__(as_signature(signature), _known(adapter), **lm_options)


def _known(adapter: Any) -> Any:
    if isinstance(adapter, str):
        get_adapter(adapter)  # a misspelt name is told here, not at the first call
    return adapter
