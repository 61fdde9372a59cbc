"""In a worker process: what tasks print, log and warn goes to the parent line by line, and to this process's own log."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TextIO

Say = Callable[[str, str, str], None]
_LONGEST = 10_000


class _Lines:
    """A text file that tells whole lines."""

    encoding = "utf-8"

    def __init__(self, file: TextIO, level: str, say: Say) -> None:
        self._file, self._level, self._say = file, level, say
        self._lock = threading.Lock()
        self._part = ""

    def write(self, text: str) -> int:
        """Take text."""
        self._file.write(text)
        with self._lock:
            *lines, self._part = (self._part + text).split("\n")
            if len(self._part) > _LONGEST:
                lines, self._part = [*lines, self._part], ""
        for line in lines:
            self._tell(line)
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered in the file; an unfinished line waits for its end."""
        self._file.flush()

    def finish(self) -> None:
        """Tell an unfinished line."""
        with self._lock:
            line, self._part = self._part, ""
        self._tell(line)
        self._file.flush()

    def _tell(self, line: str) -> None:
        if line.strip():
            self._say("print", self._level, line[:_LONGEST])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Records(logging.Handler):
    """Tells log records."""

    def __init__(self, file: TextIO, say: Say) -> None:
        super().__init__()
        self._file, self._tell = file, say
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            text = self.format(record)
            self._file.write(f"{record.levelname} {text}\n")
            self._tell("logging", record.levelname, text[:_LONGEST])
        except Exception:  # noqa: BLE001 - as logging does: a bad record must not fail the task
            self.handleError(record)


_files: list[_Lines] = []


def install(say: Say) -> None:
    """Catch prints, log records and warnings from now on."""
    plain = sys.stderr
    out, err = _Lines(plain, "INFO", say), _Lines(plain, "ERROR", say)
    _files[:] = [out, err]
    sys.stdout, sys.stderr = out, err
    logging.getLogger().addHandler(_Records(plain, say))

    def warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
        text = f"{category.__name__}: {message} ({filename}:{lineno})"
        plain.write(text + "\n")
        say("warning", "WARNING", text[:_LONGEST])

    warnings.showwarning = warned


def flush() -> None:
    """Tell unfinished lines: the task is over."""
    for file in _files:
        file.finish()
