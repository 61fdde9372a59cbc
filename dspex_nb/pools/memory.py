"""How much memory a process and all it started take."""

from __future__ import annotations

import contextlib
import os
import sys

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def tree_rss_bytes(pid: int) -> int:
    """Return the resident memory of `pid` and its descendants, 0 if it has ended. Pages they share count once for each."""
    if not sys.platform.startswith("linux"):
        return _by_psutil(pid)
    total, waiting = 0, [pid]
    while waiting:  # by hand: a look at eight workers ten times a second must not list every process of the machine
        current = waiting.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{current}/statm", "rb") as file:  # noqa: PTH123 - ten times a second
                total += int(file.read().split()[1]) * _PAGE
            for thread in os.listdir(f"/proc/{current}/task"):  # noqa: PTH208
                with open(f"/proc/{current}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                    waiting += map(int, file.read().split())
    return total


def machine_bytes() -> int:
    """Return the machine's memory, 0 if unknown."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * _PAGE
    return 0


def _by_psutil(pid: int) -> int:
    import psutil  # type: ignore[import-untyped]

    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total
