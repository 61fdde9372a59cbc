"""An LM whose calls outside every trial are tried again: proposing an instruction must not end a study over one timeout."""

from __future__ import annotations

import contextlib
from typing import Any

from dspy.utils.exceptions import LMError as DSPyLMError

from dspex_nb.bridge.lm import BridgeLM
from dspex_nb.bridge.watching import StudyWatch
from dspex_nb.errors import Cancelled, LMAuthError, LMBillingError, LMInvalidRequestError, LMNotConfiguredError
from dspex_nb.transport.limits import sleep

_ATTEMPTS = 5
_FIRST_WAIT_S = 0.5
_IN_VAIN = (LMAuthError, LMBillingError, LMInvalidRequestError, LMNotConfiguredError)


class PatientLM(BridgeLM):
    """A `BridgeLM` of a study. A call that serves an example fails that example alone; others are tried again, for longer.

    Args:
        client: As `BridgeLM`.
        watch: Knows what a call serves.
        options: As `BridgeLM`.
    """

    def __init__(self, client: Any, *, watch: StudyWatch, **options: Any) -> None:
        super().__init__(client, **options)
        self._watch = watch

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Complete, as `BridgeLM` does."""
        for attempt in range(_ATTEMPTS):
            try:
                return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]
            except DSPyLMError as error:
                last = attempt == _ATTEMPTS - 1 or self._watch.place() is not None or isinstance(error, _IN_VAIN)
                if last or self._scope.cancel.cancelled:
                    raise
                with contextlib.suppress(Cancelled):  # heard at the next attempt
                    sleep(_FIRST_WAIT_S * 2**attempt, self._scope.cancel)
        raise AssertionError("unreachable")

    def launch(self, launch_kwargs: Any = None) -> None:
        """Do nothing: BetterTogether asks it of every LM, for those that a provider serves."""

    def kill(self, launch_kwargs: Any = None) -> None:
        """Do nothing, as `launch`."""
