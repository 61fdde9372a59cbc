"""`dx.Predict` and `dx.ChainOfThought`: a signature made callable, in the session in force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from dspex_nb import modules
from dspex_nb.api.mapping import run_rows
from dspex_nb.api.programs import program_of
from dspex_nb.api.sessions import session
from dspex_nb.api.signatures import as_signature
from dspex_nb.predictions import Prediction
from dspex_nb.scopes import Scope, new_run_id

_OPTIONS = ("config", "demos", "lm", "adapter", "rollout_id", "temperature", "max_tokens", "n")


class _Callable:
    """The session-reading calls that both predictors share."""

    signature: Any

    def __call__(self, **inputs: Any) -> Prediction:
        """Run on one row of inputs.

        DSPy's call options are taken too where no input has their name: `config`, `demos`, `rollout_id`,
        `temperature`, `max_tokens`, `n`.

        Raises:
            MissingInputError: An input without a default is not given.
            LMError: The call failed.
            AdapterParseError: The answer does not hold the output fields.
        """
        now, options = session(), self._options(inputs)
        prediction: Prediction = self.call(inputs, session=now, scope=Scope(new_run_id(), now.bus), **options)  # type: ignore[attr-defined]
        return prediction

    async def acall(self, **inputs: Any) -> Prediction:
        """Run on one row of inputs without blocking the running event loop."""
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
            return_as: `"list"`, or `"generator"` to take results as they are ready.
            on_error: `"raise"` stops at the first error; `"keep"` puts the error in the row's place.
            on_progress: Called with each event.
        """
        results = run_rows(program_of(self), rows, n_jobs=n_jobs, on_error=on_error, on_progress=on_progress)
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
        super().__init__(as_signature(signature), adapter, **lm_options)


class ChainOfThought(_Callable, modules.ChainOfThought):
    """A signature made callable that reasons first: adds a `reasoning` output before the others."""

    def __init__(self, signature: Any, adapter: Any = None, **lm_options: Any) -> None:
        super().__init__(as_signature(signature), adapter, **lm_options)
