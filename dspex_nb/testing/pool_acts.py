"""What the tasks of the pool suites do, and what the suites test with."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

_state: dict[tuple[str, int], Any] = {}


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


def where() -> tuple[int, int]:
    """Return the process and thread."""
    return os.getpid(), threading.get_ident()


def remember(key: str, value: Any) -> None:
    """Keep a value in the worker."""
    _state[key, threading.get_ident()] = value


def recall(key: str) -> Any:
    """Return what was kept."""
    return _state.get((key, threading.get_ident()))


async def soon(number: int) -> int:
    """Return one more, a moment later."""
    await asyncio.sleep(0)
    return number + 1


def count(end: int, fail_at: int | None = None) -> Iterator[int]:
    """Yield numbers."""
    for number in range(end):
        if number == fail_at:
            raise ValueError(f"no {number}")
        yield number


async def count_soon(end: int) -> AsyncIterator[int]:
    """Yield numbers, asynchronously."""
    for number in range(end):
        await asyncio.sleep(0)
        yield number


def note_each(path: str) -> Iterator[int]:
    """Yield numbers, noting each in a file, and the end."""
    number = 0
    try:
        while True:
            with open(path, "a", encoding="ascii") as file:  # noqa: PTH123
                file.write(".")
            yield number
            number += 1
    finally:
        with open(path, "a", encoding="ascii") as file:  # noqa: PTH123
            file.write("closed")


def append(path: str, text: str) -> str:
    """Add to a file."""
    with open(path, "a", encoding="ascii") as file:  # noqa: PTH123
        file.write(text)
    return text


def die_once(path: str) -> int:
    """Note the start; the first one dies."""
    append(path, "s")
    if os.path.getsize(path) == 1:  # noqa: PTH202
        os.kill(os.getpid(), signal.SIGKILL)
    return os.path.getsize(path)  # noqa: PTH202


def sleep(seconds: float) -> float:
    """Sleep, and return for how long."""
    time.sleep(seconds)
    return seconds


def die() -> None:
    """End this process by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    """End this process by a segmentation fault."""
    ctypes.string_at(0)


def stop_itself() -> None:
    """Stop this process."""
    os.kill(os.getpid(), signal.SIGSTOP)


def two_children(path: str) -> None:
    """Start a process in the worker's group and one that has left it; note their ids and the worker's, and sleep."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]  # noqa: S603
    file = tempfile.NamedTemporaryFile(delete=False)  # noqa: SIM115 - left behind on purpose
    with open(path + "~", "w", encoding="utf-8") as note:  # noqa: PTH123
        note.write(" ".join([*(str(each) for each in (os.getpid(), *(child.pid for child in started))), file.name]))
    os.replace(path + "~", path)  # noqa: PTH105
    time.sleep(60)


def loaded(module: str) -> bool:
    """Whether a module is imported."""
    return module in sys.modules


def lm_in_force() -> tuple[str, dict[str, Any]]:
    """Return the model and the credentials that this process would ask with."""
    import dspex_nb

    client = dspex_nb.session().lm
    return client.model, client.secrets()


def environment(*names: str) -> list[str]:
    """Return variables."""
    return [os.environ.get(name, "") for name in names]


def seen_from_outside() -> str:
    """What others may see of this process."""
    found = b""
    for name in ("cmdline", "environ"):
        with open(f"/proc/{os.getpid()}/{name}", "rb") as file:  # noqa: PTH123
            found += file.read()
    return found.decode("utf-8", "replace")


def alive(pid: int) -> bool:
    """Whether a process runs, on this machine; one that waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def hoard(count: int) -> int:
    """Take ten megabytes, many times."""
    data = [bytearray(10_000_000) for _ in range(count)]
    time.sleep(5)
    return len(data)


def chat() -> None:
    """Print, warn and log."""
    sys.stdout.write("a line\n")
    warnings.warn("beware", stacklevel=1)
    logging.getLogger("task").error("bad news")


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


class Raises:
    """Catches the error a block must raise (pytest is not a dependency of this package)."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind
        self.error: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        assert kind is not None, f"expected {self.kind.__name__}, nothing was raised"
        self.error = error
        return issubclass(kind, self.kind)


@contextmanager
def temporary_folder() -> Iterator[str]:
    """Lend a folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def text_of(path: str) -> str:
    """Return a file's text."""
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        return file.read()
