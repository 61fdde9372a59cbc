"""Who holds something: a process named by its id and its start time, so that a recycled id is not taken for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_STARTTIME = 19  # field 22 of /proc/PID/stat, counted after the ")" that closes the command's name


@dataclass(frozen=True, slots=True)
class Owner:
    """A process. `started` is its start in clock ticks since boot, 0 where the system does not say."""

    pid: int
    started: int = 0

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Return the process that now has this id."""
        return cls(pid, _start_ticks(pid) or 0)

    @classmethod
    def here(cls) -> Owner:
        """Return this process."""
        return cls.of(os.getpid())


def is_alive(owner: Owner) -> bool:
    """Say whether exactly this process still runs; a zombie does not."""
    if Path("/proc/self/stat").exists():
        ticks = _start_ticks(owner.pid)
        return ticks is not None and (not owner.started or ticks == owner.started)
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_ticks(pid: int) -> int | None:
    """Return the start time of a running process, None if there is none (or no /proc)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[_STARTTIME])
