"""The LM of a study: it stops and pauses with it, and its calls outside every trial are tried again.

Proposing an instruction must not end a study over one timeout; a call that serves an example fails that example alone.
"""

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
    """A `BridgeLM` of a study. It tells the study's watch itself what DSPy's callbacks would, in a tenth of their time.

    Args:
        client: As `BridgeLM`.
        watch: The study's.
        options: As `BridgeLM`.
    """

    def __init__(self, client: Any, *, watch: StudyWatch, **options: Any) -> None:
        super().__init__(client, **options)
        self._watch = watch

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Complete, as `BridgeLM` does."""
        for attempt in range(_ATTEMPTS):
            self._watch.checkpoint()
            try:
                outputs = self.complete(*args, **kwargs)
            except Exception as error:
                self._watch.lm_failed(error)
                last = attempt == _ATTEMPTS - 1 or self._watch.place() is not None
                if last or not isinstance(error, DSPyLMError) or isinstance(error, _IN_VAIN):
                    raise
                with contextlib.suppress(Cancelled):  # heard at the next attempt
                    sleep(_FIRST_WAIT_S * 2**attempt, self._scope.cancel)
            else:
                self._watch.lm_answered()
                return outputs
        raise AssertionError("unreachable")

    def launch(self, launch_kwargs: Any = None) -> None:
        """Do nothing: BetterTogether asks it of every LM, for those that a provider serves."""

    def kill(self, launch_kwargs: Any = None) -> None:
        """Do nothing, as `launch`."""
