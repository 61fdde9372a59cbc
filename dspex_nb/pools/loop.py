"""The process's own event loop, on a daemon thread: async work of sync cells runs here, whatever loop the notebook has."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading


class LoopThread:
    """One event loop, started at first use; its connections are closed when the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="dspex-loop", daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Close what the loop holds open, and end it; the next use starts another."""
        with self._lock:
            loop, self._loop, thread, self._thread = self._loop, None, self._thread, None
        if loop is None or thread is None:
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(1.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(1.0)
        if not thread.is_alive():
            loop.close()

    def forget(self) -> None:
        """Drop the loop: after a fork its thread is in the other process."""
        self._lock = threading.Lock()
        self._loop = self._thread = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            # asyncio lets a task's `exit()` through to here, after it has told the task's waiter: the other tasks go on.
            continue
        return


loop_thread = LoopThread()
atexit.register(loop_thread.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=loop_thread.forget)
