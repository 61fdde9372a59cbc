"""Our LM errors as DSPy's own, where DSPy's code decides by their class (ReAct shortens its history, bootstrapping gives up)."""

from __future__ import annotations

from dspy.utils import exceptions as theirs

from dspex_nb import errors as ours


class LMError(ours.LMError, theirs.LMError):  # type: ignore[misc]
    """An LM error of both trees. Made by `as_dspy` from one of ours, with its message, hint and facts."""


class LMTransportError(LMError, ours.LMTransportError, theirs.LMTransportError):  # type: ignore[misc]
    """Both."""


class LMNotConfiguredError(LMError, ours.LMNotConfiguredError, theirs.LMNotConfiguredError):  # type: ignore[misc]
    """Both."""


class LMTimeoutError(LMError, ours.LMTimeoutError, theirs.LMTimeoutError):  # type: ignore[misc]
    """Both."""


class LMAuthError(LMError, ours.LMAuthError, theirs.LMAuthError):  # type: ignore[misc]
    """Both."""


class LMBillingError(LMError, ours.LMBillingError, theirs.LMBillingError):  # type: ignore[misc]
    """Both."""


class LMRateLimitError(LMError, ours.LMRateLimitError, theirs.LMRateLimitError):  # type: ignore[misc]
    """Both."""


class LMInvalidRequestError(LMError, ours.LMInvalidRequestError, theirs.LMInvalidRequestError):  # type: ignore[misc]
    """Both."""


class ContextWindowExceededError(LMInvalidRequestError, ours.ContextWindowExceededError, theirs.ContextWindowExceededError):  # type: ignore[misc]
    """Both."""


class LMUnsupportedModelError(LMInvalidRequestError, ours.LMUnsupportedModelError, theirs.LMUnsupportedModelError):  # type: ignore[misc]
    """Both."""


class LMServerError(LMError, ours.LMServerError, theirs.LMServerError):  # type: ignore[misc]
    """Both."""


class BudgetExceededError(LMError, ours.BudgetExceededError, theirs.LMBillingError):  # type: ignore[misc]
    """Both; to DSPy a budget that is used up is an account without credit."""


class LMUnavailableError(LMError, ours.LMUnavailableError, theirs.LMTransportError):  # type: ignore[misc]
    """Both; DSPy knows no circuit, and a server that is left alone is one that cannot be reached."""


class LMInvalidResponseError(LMError, ours.LMInvalidResponseError, theirs.LMUnexpectedError):  # type: ignore[misc]
    """Both."""


_BOTH: dict[type[ours.LMError], type[LMError]] = {
    getattr(ours, cls.__name__): cls
    for cls in (
        LMError, LMTransportError, LMNotConfiguredError, LMTimeoutError, LMAuthError, LMBillingError, LMRateLimitError,
        LMInvalidRequestError, ContextWindowExceededError, LMUnsupportedModelError, LMServerError, BudgetExceededError,
        LMUnavailableError, LMInvalidResponseError,
    )
}  # fmt: skip


def as_dspy(error: ours.LMError) -> ours.LMError:
    """Return the same error in both trees; a kind of which DSPy has no counterpart stays as it is."""
    cls = _BOTH.get(type(error))
    if cls is None:
        return error
    both = cls.__new__(cls)
    both.args = error.args
    facts = {"code": cls.default_code, "provider": None, "provider_code": None, "request_id": None}
    both.__dict__.update(facts, retry_after=error.retry_after_s, **error.__dict__)
    both.__cause__, both.__suppress_context__ = error.__cause__, True
    return both.with_traceback(error.__traceback__)
