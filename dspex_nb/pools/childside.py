"""The child's end of a `ChildProcess`: it dies with its parent, hears commands, sends messages."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from dspex_nb.pools.framing import read_message, write_message

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Link:
    """The pipes to the parent; one a process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.write_lock = threading.Lock()
        self.commands: list[dict[str, Any]] = []
        self.on_command: Callable[[dict[str, Any]], None] | None = None
        self.on_eof: Callable[[], None] | None = None
        self.upward: IO[bytes] | None = None


_link = _Link()


def prepare() -> None:
    """Tie this process's life to its parent's and take the message pipes; what it prints goes to stderr from here on."""
    if _link.upward is not None:
        return
    _die_with_parent()
    # Private copies of the pipes (not inherited by what this process starts); then stdin is empty and stdout is the log,
    # for C code too, so that nothing printed can be taken for a message.
    downward = os.fdopen(os.dup(0), "rb")
    _link.upward = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    threading.Thread(target=_listen, args=(downward,), name="dspex-parent-watch", daemon=True).start()


def serve(on_command: Callable[[dict[str, Any]], None], on_eof: Callable[[], None] | None = None) -> None:
    """Hear commands from now on; returns at once.

    Args:
        on_command: Called in the reader thread with each command, in order, also those that came before this call. Bytes
            sent beside a command are its item `"blob"`.
        on_eof: Called once when the parent closed the pipe or is gone; when it returns, the process exits.
    """
    prepare()
    with _link.lock:
        _link.on_eof = on_eof
        early, _link.commands = _link.commands, []
        for command in early:
            _hand_over(on_command, command)
        _link.on_command = on_command


def send(message: Mapping[str, Any], blob: bytes | None = None) -> None:
    """Send one message to the parent; nothing happens if it is gone, for then this process is about to end."""
    prepare()
    assert _link.upward is not None  # noqa: S101 - prepare sets it
    with contextlib.suppress(BrokenPipeError), _link.write_lock:
        write_message(_link.upward, message, blob)


def _listen(downward: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while (command := read_message(downward)) is not None:
            with _link.lock:
                on_command = _link.on_command
                if on_command is None:
                    _link.commands.append(command)
            if on_command is not None:
                _hand_over(on_command, command)
    with contextlib.suppress(BaseException):
        if _link.on_eof is not None:
            _link.on_eof()
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(0)  # not sys.exit: other threads may be stuck in calls that never return


def _hand_over(on_command: Callable[[dict[str, Any]], None], command: dict[str, Any]) -> None:
    try:
        on_command(command)
    except Exception:  # noqa: BLE001 - one bad command must not stop the watch over the parent
        sys.excepthook(*sys.exc_info())


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL at the parent's death, then look whether it died before we asked."""
    if not sys.platform.startswith("linux"):
        return  # the watch over stdin is the only means there
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    expected = os.environ.pop("DSPEX_PARENT_PID", None)
    if expected is not None and os.getppid() != int(expected):
        os._exit(0)
