"""The notebook's settings (its LM, adapter, cache) on their way into a worker process.

This floor knows nothing of them: the floor that does sets `settings.pack`, which is asked at each submit, in the submitting
thread, so that a `with context(…)` block counts. It returns the same bytes object as long as nothing changed. The way back is
`settings.tell`: it takes what a worker asked of a model in a task that belongs to no run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextvars import ContextVar

from dspex_nb.events import Event

RECEIVER = "dspex_nb.api.packing"
by_pipe: ContextVar[bool] = ContextVar("dspex_by_pipe", default=False)
"""Whether what is pickled now goes to a worker of our own and nowhere else: only then may it hold a key."""


class _Settings:
    def __init__(self) -> None:
        self.pack: Callable[[], bytes | None] = lambda: None
        self.tell: Callable[[Event], None] = lambda _: None
        self.arrived: bytes | None = None
        self._opened = False

    def arrive(self, blob: bytes) -> None:
        """In a worker: keep them for the first use of the session; if it is in use already, they count from now on."""
        self.arrived = blob
        if self._opened:
            self.open()

    def ready(self) -> None:
        """In a worker: have what arrived in force; what arrives later replaces it as it comes."""
        if not self._opened:
            self.open()

    def open(self) -> None:
        """In a worker: make what arrived the settings of the session, which is used for the first time."""
        self._opened = True
        if self.arrived is not None:
            importlib.import_module(RECEIVER).take_settings(self.arrived)


settings = _Settings()
