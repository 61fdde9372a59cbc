"""`dx.Predict` and `dx.ChainOfThought`: a signature made callable, in the session in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from dspex_nb import modules
from dspex_nb.adapters import check_adapter
from dspex_nb.adapters.accepting import accepted
from dspex_nb.ambient import Session
from dspex_nb.api.lms import client_of
from dspex_nb.api.mapping import check_choice, iter_mapped, run_rows
from dspex_nb.api.programs import program_of, refuse_unnamed
from dspex_nb.api.prompts import Prompt
from dspex_nb.api.sessions import scope_here, session
from dspex_nb.api.signatures import as_signature
from dspex_nb.api.streams import AsyncStream, Stream
from dspex_nb.datasets import rows_of
from dspex_nb.modules import streaming
from dspex_nb.predictions import Prediction
from dspex_nb.scopes import Scope, stopped

_OPTIONS = ("config", "demos", "lm", "adapter", "rollout_id", "temperature", "max_tokens", "n", "cache", "ttl_s")


class _Callable:
    """The session-reading calls that both predictors share."""

    signature: Any

    def __call__(self, *unnamed: Any, **inputs: Any) -> Prediction:
        """Run on one row of inputs, each given by its name.

        DSPy's call options are taken too where no input has their name: `config`, `demos`, `rollout_id`,
        `temperature`, `max_tokens`, `n`, `cache` (False asks anew); and `ttl_s`, how many seconds the answer is kept.

        Raises:
            MissingInputError: An input without a default is not given, or one is given without its name.
            LMError: The call failed.
            AdapterParseError: The answer does not hold the output fields.
            Cancelled: The user pressed ■.
        """
        now, scope, options = self._begin(unnamed, inputs)
        try:
            prediction: Prediction = self.call(inputs, session=now, scope=scope, **options)  # type: ignore[attr-defined]
        except KeyboardInterrupt:
            raise stopped() from None  # ■: the socket is closed by now, and sixty lines of frames would say no more
        return prediction

    async def acall(self, *unnamed: Any, **inputs: Any) -> Prediction:
        """Run on one row of inputs without blocking the running event loop."""
        now, scope, options = self._begin(unnamed, inputs)
        prediction: Prediction = await self.acall_in(inputs, session=now, scope=scope, **options)  # type: ignore[attr-defined]
        return prediction

    def stream(self, *unnamed: Any, **inputs: Any) -> Stream:
        """Return the answer while it is written: `dx.FieldEvent`s, and last the prediction that a call returns.

        As the last expression of a cell, `p.stream(question="…")` shows the fields as they grow. In code:

            for event in p.stream(question="…"):
                if isinstance(event, dx.FieldEvent) and event.kind == "delta":
                    print(event.text, end="")

        Takes what a call takes, `n` excepted. A cached answer comes as one delta a field. If the answer cannot be read, its
        fields are withdrawn and the call goes on, or fails, as it does without streaming. What only DSPy serves (see
        `.route`) comes whole at the end.

        Raises:
            MissingInputError: An input without a default is not given, or one is given without its name.
        """
        now, scope, options = self._begin(unnamed, inputs)
        return Stream(streaming.stream(self, inputs, session=now, scope=scope, **options), self.signature.outputs)  # type: ignore[arg-type]

    def astream(self, *unnamed: Any, **inputs: Any) -> AsyncStream:
        """Return the same on the running event loop: `async for event in p.astream(question="…")`.

        Closing it early (`aclose`, or leaving an `aclosing` block) closes the connection.
        """
        now, scope, options = self._begin(unnamed, inputs)
        return AsyncStream(streaming.astream(self, inputs, session=now, scope=scope, **options), self.signature.outputs)  # type: ignore[arg-type]

    def messages(self, *, adapter: Any = None, **inputs: Any) -> list[dict[str, Any]]:
        """Return the exact prompt for these inputs; a cell shows it with the files in it shortened."""
        given = accepted(self.signature, inputs, paths=True)
        return Prompt(self.messages_in(given, session=session(), adapter=adapter))  # type: ignore[attr-defined]

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

    def map(
        self, data: Any, n_jobs: int | None = None, on_error: Literal["raise", "keep"] = "keep", on_progress: Any = None
    ) -> Any:
        """Run on every row and return a DataFrame: the data's columns, the outputs, and `error`.

        A column of the data named like an output is kept as `expected_…`, so that what was given never passes for what was
        answered. Arguments and errors are those of `batch`, with `on_error="keep"`: a failed row has its error's message.
        """
        import pandas as pd

        rows = [dict(row) for row in rows_of(data)]
        results = run_rows(program_of(self), rows, n_jobs=n_jobs, on_error=on_error, on_progress=on_progress)
        outputs = self.signature.outputs
        records = [
            {
                **{f"expected_{name}" if name in outputs else name: value for name, value in row.items()},
                **{name: None if result.prediction is None else result.prediction[name] for name in outputs},
                "error": None if result.error is None else getattr(result.error, "message", str(result.error)),
            }
            for row, result in zip(rows, results, strict=True)
        ]
        index = data.index if hasattr(data, "index") and hasattr(data, "columns") else None
        return pd.DataFrame(records, index=index)

    def _begin(self, unnamed: Sequence[Any], inputs: dict[str, Any]) -> tuple[Session, Scope, dict[str, Any]]:
        """Return what a call runs in, and its options, which are taken out of `inputs`."""
        if unnamed:
            refuse_unnamed(type(self).__name__, unnamed, list(self.signature.inputs))
        now = session()
        options = self._options(inputs)
        inputs.update(accepted(self.signature, inputs, paths=True))  # what the user gave may name files
        return now, scope_here(), options

    def _options(self, inputs: dict[str, Any]) -> dict[str, Any]:
        options = {name: inputs.pop(name) for name in _OPTIONS if name in inputs and name not in self.signature.inputs}
        return {**options, "lm": client_of(options["lm"])} if "lm" in options else options


class Predict(_Callable, modules.Predict):
    """A signature made callable: one prompt, one answer, typed fields.

    Args:
        signature: A `dx.Signature`, its string form, or a `dspy.Signature` class.
        adapter: `"chat"`, `"json"`, `"compact"`, or DSPy's `"xml"`, `"two_step"`, `"baml"`; None means the session's, else the
            LM's own.
        lm: A `dx.LM` or a model string for this predictor alone; None means the session's. A saved state does not hold it.
        **lm_options: `temperature`, `max_tokens`, `n`, … for every call of this predictor.
    """

    def __init__(self, signature: Any, adapter: Any = None, *, lm: Any = None, **lm_options: Any) -> None:
        super().__init__(as_signature(signature), _known(adapter), **lm_options)
        self.lm = client_of(lm)


class ChainOfThought(_Callable, modules.ChainOfThought):
    """A signature made callable that reasons first: adds a `reasoning` output before the others."""

    def __init__(self, signature: Any, adapter: Any = None, *, lm: Any = None, **lm_options: Any) -> None:
        super().__init__(as_signature(signature), _known(adapter), **lm_options)
        self.lm = client_of(lm)


def _known(adapter: Any) -> Any:
    if isinstance(adapter, str):
        check_adapter(adapter)  # a misspelt name is told here, not at the first call
    return adapter
