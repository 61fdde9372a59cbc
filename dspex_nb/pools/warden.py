"""What outlives a killed kernel: one small process that then ends its workers' processes and removes their temporary files.

A worker dies with the kernel by itself (see `child`), but what the worker started does not, and nobody is left to remove files.
The processes are found by a variable in their environment, which everything a worker starts inherits. Run as a file, by an
interpreter without site packages, so only the standard library is used here.

It leaves its parent at once: an actor of Ray kills its own children when it ends, and would leave theirs behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time

VARIABLE = "DSPEX_SLOT"
_LOOK_S = 0.5
_ROUNDS = 20


def kill_marked(mark: str, *, exact: bool = True) -> int:
    """Kill every process whose `DSPEX_SLOT` is `mark`, or begins with it; return how many. Linux only, 0 elsewhere."""
    wanted = f"{VARIABLE}={mark}".encode() + (b"\0" if exact else b"")
    killed = 0
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names only
    except OSError:
        return 0
    for pid in numbers:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
                found = b"\0" + file.read()
            if b"\0" + wanted in found and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
                killed += 1
        except OSError:  # ended meanwhile, or another user's
            continue
    return killed


def main() -> None:
    """Wait for the end of the process `argv[1]`, then clear up the folder `argv[2]` and its processes."""
    owner, folder = int(sys.argv[1]), sys.argv[2]
    if os.fork():
        os._exit(0)
    _wait_for_end(owner)
    for _ in range(_ROUNDS):  # one that is being started this moment is found in the next round
        if not kill_marked(folder, exact=False):
            break
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for_end(owner: int) -> None:
    """Wait until that process has ended, or has closed the pipe. A forked copy of it may hold the pipe for longer."""
    watched = [0]
    with contextlib.suppress(OSError, AttributeError):  # Linux only; or it has ended already
        watched.append(os.pidfd_open(owner))
    while not select.select(watched, [], [], _LOOK_S)[0]:
        if len(watched) == 1:
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                return


if __name__ == "__main__":
    main()
