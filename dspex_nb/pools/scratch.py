"""The one folder for temporary files of this process's workers, gone with it; its name marks all they start."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from dspex_nb.pools import warden

_CLEARS_S = 5.0


class Scratch:
    """Made at first use, with the process that watches over it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: str | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def new_mark(self) -> dict[str, str]:
        """Return the variables of a new worker: where its temporary files go, and its mark."""
        with self._lock:
            if self._folder is None:
                self._open()
            folder = str(self._folder)
        return {"TMPDIR": folder, warden.VARIABLE: f"{folder}#{next(self._numbers)}"}

    def close(self) -> None:
        """Remove the folder; the watching process ends."""
        with self._lock:
            folder, self._folder, process, self._warden = self._folder, None, self._warden, None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_CLEARS_S)  # closes its pipe, and waits until it closes ours
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def forget(self) -> None:
        """Drop them: after a fork they are the other process's."""
        self.__init__()  # type: ignore[misc]

    def _open(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="dspex-")
        # Its own session, so that neither Jupyter's interrupt nor a kill of the kernel's group reaches it.
        self._warden = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-I", "-S", str(Path(warden.__file__)), str(os.getpid()), self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", "")},
        )
        self._warden.wait()  # it goes on as a child of nobody


scratch = Scratch()
atexit.register(scratch.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=scratch.forget)
