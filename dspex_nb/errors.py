"""One tree of errors; each has a message, a hint that names the next act, and renders in a cell as those two lines.

The names under LMError are DSPy's, where DSPy has the error.

DSPexError
├── SignatureError
│   └── SignatureSyntaxError      line, column and what was expected
├── AdapterError
│   └── AdapterParseError         a model's answer does not hold the fields asked for
├── LMError
│   ├── LMNotConfiguredError      no LM set, or a model string that names nothing
│   ├── LMTransportError          the server cannot be reached (LMConnectionError is another name of it)
│   ├── LMTimeoutError
│   ├── LMAuthError
│   ├── LMBillingError            no credit left
│   ├── LMRateLimitError
│   ├── LMInvalidRequestError
│   │   ├── ContextWindowExceededError
│   │   └── LMUnsupportedModelError
│   ├── LMServerError
│   ├── BudgetExceededError       what is left of the budget does not pay for it: nothing was sent
│   ├── LMUnavailableError        failed again and again: left alone for a while, nothing was sent
│   └── LMInvalidResponseError    what came back is not an answer in the provider's format
├── CacheError
├── PipelineError
│   ├── PipelineSyntaxError       a cell that cannot be read: line, column, expected
│   ├── PlanError                 a graph that cannot run: two writers, a cycle, a missing field
│   ├── MissingInputError
│   └── StepError                 a step that failed: step, cell line, cause
├── PoolError
│   ├── PoolClosedError
│   ├── PoolFullError             the queue is full, or every slot that a session could have is taken
│   ├── TransferError             a call, a result or an item that cannot cross between processes
│   ├── WorkerDiedError
│   │   ├── SessionLostError      the worker of a session is gone, its state with it
│   │   └── WorkerHungError       it gave no sign of life for `heartbeat_s`
│   ├── MemoryLimitError
│   └── TaskTimeoutError
├── DataError                     rows, files and columns
├── RetrieverError                an index that cannot be reached, made or searched
│   └── FilterError               a filter with a word or value that the language does not have
├── MetricError
├── OptimizerError
├── StudyError
├── StoreError
├── MagicUsageError
├── MissingDependencyError        ends with the exact pip command
└── Cancelled                     the user stopped it; what was finished is kept
    └── NotSent                   a budget has no room for the request
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DSPexError(Exception):
    """Root of every planned error.

    Args:
        message: What was found, where, and what was expected.
        hint: The next act, one sentence.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint.strip()

    def __str__(self) -> str:
        return f"{self.message}\n→ {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """IPython asks for this: a planned error shows its message and hint, not sixty lines of frames."""
        lines = f"{type(self).__name__}: {self.message}".splitlines()
        return [*lines, f"→ {self.hint}"] if self.hint else lines

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not unpickle by default, and errors cross process pools.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[DSPexError], args: tuple[object, ...], state: dict[str, object]) -> DSPexError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class _Located(DSPexError):  # noqa: N818 - a mixin of the two syntax errors, never raised itself
    """An error at a place in a cell's text; the caret is drawn under the column."""

    def __init__(self, message: str, *, hint: str = "", line: int = 0, column: int = 0, text: str = "") -> None:
        caret = f"\n    {text}\n    {' ' * column}^" if text else ""
        super().__init__(f"line {line}: {message}{caret}" if line else f"{message}{caret}", hint=hint)
        self.line, self.column, self.text, self.reason = line, column, text, message


class SignatureError(DSPexError):
    """A signature that cannot be built or used."""


class SignatureSyntaxError(_Located, SignatureError):
    """A signature's text cannot be read. `line` counts from 1, `column` from 0."""


class AdapterError(DSPexError):
    """A prompt that cannot be written or an answer that cannot be read."""


class AdapterParseError(AdapterError):
    """A model's answer does not hold the fields asked for; `answer` is the text as received."""

    def __init__(self, message: str, *, hint: str = "", adapter: str = "", answer: str = "") -> None:
        begins = f"; it begins {answer.strip()[:80]!r}" if answer.strip() else ""
        super().__init__(f"{message}{begins}", hint=hint)
        self.adapter, self.answer = adapter, answer


class LMError(DSPexError):
    """A language model call that failed. `retryable` says whether the same request may succeed later."""

    retryable = False

    def __init__(
        self, message: str, *, hint: str = "", model: str = "", status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.model, self.status, self.retry_after_s = model, status, retry_after_s


class LMNotConfiguredError(LMError):
    """No LM is set, or the model string names nothing known."""


class LMTransportError(LMError):
    """The server cannot be reached, or it closed the connection."""

    retryable = True


LMConnectionError = LMTransportError


class LMTimeoutError(LMError):
    """No answer within `timeout_s`."""

    retryable = True


class LMAuthError(LMError):
    """The key is missing, wrong or expired."""


class LMBillingError(LMError):
    """The account has no credit left (402, or a 429 that says so)."""


class LMRateLimitError(LMError):
    """The provider asked to slow down (429)."""

    retryable = True


class LMInvalidRequestError(LMError):
    """The provider refused the request as malformed (400, 404, 422)."""


class ContextWindowExceededError(LMInvalidRequestError):
    """The prompt is longer than the model's context window."""


class LMUnsupportedModelError(LMInvalidRequestError):
    """The provider does not serve this model to this account."""


class LMServerError(LMError):
    """The provider failed (5xx)."""

    retryable = True


class LMUnavailableError(LMError):
    """The model failed many times in a row, so nothing was sent; `retry_after_s` says when the next call is tried."""


class BudgetExceededError(LMError):
    """What is left of the budget does not pay for the call, so nothing was sent."""


class LMInvalidResponseError(LMError):
    """What came back is not an answer in the provider's format."""


class CacheError(DSPexError):
    """A cache that cannot be opened or was given impossible limits."""


class PipelineError(DSPexError):
    """A pipeline that cannot be built or run."""


class PipelineSyntaxError(_Located, PipelineError):
    """A `%%pipeline` cell that cannot be read. `line` counts from 1 within the cell's body."""


class PlanError(_Located, PipelineError):
    """A graph that cannot run: two writers of a field, a cycle, a field nobody writes."""


class MissingInputError(PipelineError):
    """A call lacks an input that the program needs."""


class StepError(PipelineError):
    """A step failed. `step` is its name, `line` its cell line (0 if none), `cause` the original error."""

    def __init__(
        self, message: str, *, hint: str = "", step: str = "", line: int = 0, cause: BaseException | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.step, self.line, self.cause = step, line, cause


class PoolError(DSPexError):
    """A pool that cannot take or finish a task."""


class PoolClosedError(PoolError):
    """The pool was closed."""


class PoolFullError(PoolError):
    """The pool takes no more now: its queue is full, or as many sessions are open as it may have."""


class TransferError(PoolError):
    """A call, its result or an item of a stream cannot cross between this process and a worker."""


class WorkerDiedError(PoolError):
    """A worker process ended while it held a task; `began` says whether the task had started."""

    began = True


class SessionLostError(WorkerDiedError):
    """A session's worker ended or was given back, and the state kept in it is gone."""


class WorkerHungError(WorkerDiedError):
    """A worker gave no sign of life for `heartbeat_s` and was killed."""


class MemoryLimitError(PoolError):
    """A task's worker, with what it started, took more memory than `memory_bytes` and was killed."""


class TaskTimeoutError(PoolError):
    """A task ran longer than its `timeout_s`."""


class DataError(DSPexError):
    """Rows, a file or a column that cannot be used."""


class RetrieverError(DSPexError):
    """An index that is unknown, cannot be reached, or cannot do what was asked."""


class FilterError(RetrieverError):
    """A metadata filter that cannot be read; nothing was searched."""


class MetricError(DSPexError):
    """A metric that is unknown, raised, or did not return a number."""


class OptimizerError(DSPexError):
    """An optimizer that is unknown or lacks something it needs."""


class StudyError(DSPexError):
    """A study that is unknown or cannot do what was asked in its state."""


class StoreError(DSPexError):
    """The run store cannot be opened or written."""


class MagicUsageError(DSPexError):
    """A magic's line or body that cannot be read."""


class MissingDependencyError(DSPexError):
    """An optional package is not installed; the hint is the exact pip command."""


class Cancelled(DSPexError):  # noqa: N818 - a stop is an outcome, not a fault
    """The user stopped it; what was finished is kept."""


class NotSent(Cancelled):
    """A request was not sent: the run's budget has no room for it."""


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `did you mean 'x'? ` for the nearest known word, or an empty string."""
    names = list(known)
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in names], n=1, cutoff=cutoff)
    alike = [name for name in names if near and name.lower() == near[0]]  # `Predict` and `predict`: the word's own case decides
    return f"did you mean {max(alike, key=lambda name: difflib.SequenceMatcher(None, word, name).ratio())!r}? " if alike else ""
