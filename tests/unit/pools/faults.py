"""Random faults in a pool, by hand with more of them: python tests/unit/pools/faults.py 1000

A third of the tasks are innocent, the others kill their worker, end it by a segmentation fault, take too much memory, hang
(stopped by a signal), return what cannot be sent, raise, run too long, or are killed from outside while they work. Every task
notes each start in a file, so that a second start is seen whatever became of the worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, wait

from dspex_nb.errors import MemoryLimitError, TaskTimeoutError, TransferError, WorkerDiedError
from dspex_nb.pools import Pools

KINDS = ("fine", "fine", "fine", "kill", "segfault", "memory", "hang", "unsendable", "raise", "slow", "cancel", "killed")
EXPECTED = {  # a hang that is idempotent is tried three times, 2 s each
    "kill": WorkerDiedError, "segfault": WorkerDiedError, "memory": MemoryLimitError, "hang": WorkerDiedError,
    "unsendable": TransferError, "raise": ValueError, "slow": TaskTimeoutError, "cancel": CancelledError, "killed": WorkerDiedError,
}  # fmt: skip


def act(kind, number, folder):
    with open(f"{folder}/{number}", "a") as file:
        file.write(f"{os.getpid()}\n")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "segfault":
        ctypes.string_at(0)
    elif kind == "memory":
        held = bytearray(os.urandom(1)) * 400_000_000
        time.sleep(5)
        return len(held)
    elif kind == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "unsendable":
        return threading.Lock()
    elif kind == "raise":
        raise ValueError("on purpose")
    elif kind in ("slow", "cancel", "killed"):
        time.sleep(20)
    return number


def starts(folder, number):
    try:
        with open(f"{folder}/{number}") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def run(count, size=2, seed=0):
    chance = random.Random(seed)
    plan = [(number, chance.choice(KINDS), chance.random() < 0.3) for number in range(count)]
    resolved = Counter()
    pools = Pools()
    pool = pools.create("faults", size, "loky", memory_bytes=250_000_000, timeout_s=30, heartbeat_s=2.0, queue_size=count + 1)
    figures = Counter()
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        futures = []
        for number, kind, idempotent in plan:
            limit = 0.4 if kind == "slow" else None
            future = pool.options(idempotent=idempotent, timeout_s=limit).submit(act, kind, number, folder)
            future.add_done_callback(lambda _, number=number: resolved.update([number]))
            futures.append(future)
        waiting = {number: kind for number, kind, _ in plan if kind in ("cancel", "killed")}
        while waiting and any(not futures[number].done() for number in waiting):
            for number in [n for n in waiting if futures[n].done() or starts(folder, n)]:
                kind = waiting[number]
                if kind == "cancel":
                    futures[number].cancel()
                    del waiting[number]
                elif futures[number].done():
                    del waiting[number]
                else:
                    for pid in starts(folder, number)[-1:]:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)
        _, late = wait(futures, 600)
        figures["not resolved"] = len(late)
        for (number, kind, idempotent), future in zip(plan, futures, strict=True):
            count_of = len(starts(folder, number))
            figures["started twice though not idempotent"] += count_of > 1 and not idempotent
            figures["run again because idempotent"] += count_of > 1
            error = CancelledError() if future.cancelled() else future.exception()
            right = error is None and future.result() == number if kind == "fine" else isinstance(error, EXPECTED.get(kind, ()))
            if not right:
                print("wrong:", number, kind, idempotent, repr(error))
            figures["wrong outcome"] += not right
            figures[kind] += 1
    figures["resolved other than once"] = sum(resolved[number] != 1 for number in range(count))
    alive = pool.map(_pid_after, [0.05] * 8 * size, return_as="list")
    figures["workers at the end"] = len(set(alive))
    figures["seconds"] = round(time.monotonic() - started_at)
    stats = pool.stats()
    figures["restarts"] = sum(slot.restarts for slot in stats.slots)
    pools.close()
    return figures


def _pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


if __name__ == "__main__":
    for name, figure in run(int(sys.argv[1]), *map(int, sys.argv[2:])).items():
        print(f"{figure:6} {name}")
