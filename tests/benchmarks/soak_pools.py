"""Mixed load on a pool with faults injected, by hand: memory must stay flat, nothing be lost, no process be left.

    python tests/benchmarks/soak_pools.py [seconds] [backend] [out.json]

Four kinds of users share one pool for the whole time: plain calls, maps, streams (some left early) and sessions with state. A
fifth injects faults: tasks that kill their worker, crash, take too much memory, run too long, return what cannot be sent, and
workers killed from outside. Prints JSON; ends with an error where a promise was broken.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import psutil

from dspex_nb.errors import MemoryLimitError, SessionLostError, TaskTimeoutError, TransferError, WorkerDiedError
from dspex_nb.pools import Pool, Pools

SLOTS = 3
LIMIT_BYTES = 250_000_000
LOOK_S = 2.0


def work(number: int) -> int:
    return sum(range(number % 1000)) + number


def wanted(number: int) -> int:
    return sum(range(number % 1000)) + number


def items(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield number.to_bytes(4, "big") * 50


def keep(number: int) -> int:
    global kept  # the worker's: this process has no such name
    kept = [*globals().get("kept", []), number]
    return len(kept)


def misbehave(kind: str) -> Any:
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "segfault":
        ctypes.string_at(0)
    elif kind == "memory":
        held = bytearray(os.urandom(1)) * 400_000_000
        time.sleep(5)
        return len(held)
    elif kind == "slow":
        time.sleep(30)
    elif kind == "unsendable":
        return threading.Lock()
    raise ValueError("on purpose")


EXPECTED: dict[str, type[BaseException]] = {
    "kill": WorkerDiedError, "segfault": WorkerDiedError, "memory": MemoryLimitError, "slow": TaskTimeoutError,
    "unsendable": TransferError, "raise": ValueError,
}  # fmt: skip


class Soak:
    """The users of one pool, and what they saw."""

    def __init__(self, pool: Pool, seconds: float) -> None:
        self.pool, self.until = pool, time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.lock = threading.Lock()
        self.sizes: list[tuple[float, int, int]] = []

    def note(self, what: str, by: int = 1) -> None:
        with self.lock:
            self.counts[what] += by

    def expect(self, right: bool, text: str) -> None:
        if not right:
            with self.lock:
                self.wrong.append(text)

    def going(self) -> bool:
        return time.monotonic() < self.until

    def calls(self, chance: random.Random) -> None:
        numbers = [chance.randrange(10**6) for _ in range(20)]
        futures = [self.pool.options(idempotent=True, priority=1).submit(work, number) for number in numbers]
        for number, future in zip(numbers, futures, strict=True):
            self.expect(future.result(120) == wanted(number), f"call {number}")
        self.note("calls", len(numbers))

    def maps(self, chance: random.Random) -> None:
        numbers = [chance.randrange(10**6) for _ in range(30)]
        found = list(self.pool.options(idempotent=True).map(work, numbers))
        self.expect(found == [wanted(number) for number in numbers], "map")
        self.note("mapped", len(numbers))

    def streams(self, chance: random.Random) -> None:
        count, leave = chance.randrange(1, 3000), chance.random() < 0.3
        seen = 0
        with contextlib.suppress(WorkerDiedError), self.pool.stream(items, count) as stream:
            for item in stream:
                self.expect(int.from_bytes(item[:4], "big") == seen, "stream out of order")
                seen += 1
                if leave and seen > 5:
                    break
            else:
                self.expect(seen == count, f"stream ended after {seen} of {count}")
        self.note("streamed items", seen)

    def sessions(self, chance: random.Random) -> None:
        with contextlib.suppress(SessionLostError, WorkerDiedError), self.pool.session(f"s{chance.randrange(3)}") as session:
            for number in range(1, chance.randrange(2, 6)):
                self.expect(session.call(keep, number) == number, "a session met another's state")
                self.note("session calls")

    def faults(self, chance: random.Random) -> None:
        kind = chance.choice([*EXPECTED, "cancel", "outside"])
        if kind == "outside":
            pids = [slot.pid for slot in self.pool.stats().slots if slot.pid]
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(pids), signal.SIGKILL)
        elif kind == "cancel":
            future = self.pool.submit(time.sleep, 30)
            time.sleep(chance.random())
            future.cancel()
            self.expect(future.cancelled() and isinstance(_error(future), CancelledError), "cancel")
        else:
            error = _error(self.pool.options(timeout_s=1.0 if kind == "slow" else 60.0).submit(misbehave, kind))
            # A worker killed from outside at that moment is a fault, too.
            self.expect(isinstance(error, EXPECTED[kind] | WorkerDiedError), f"{kind}: {error!r}")
        self.note(f"fault {kind}")
        time.sleep(chance.random() / 2)

    def user(self, act: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        while self.going():
            try:
                act(chance)
            except WorkerDiedError:
                self.note("three deaths in a row")  # an idempotent task is tried three times
            except Exception as error:
                self.expect(False, f"{act.__name__}: {error!r}")

    def watch(self) -> None:
        me = psutil.Process()
        while self.going():
            gc.collect()
            self.sizes.append((time.monotonic(), me.memory_info().rss, threading.active_count()))
            time.sleep(LOOK_S)


def _error(future: Any) -> BaseException | None:
    try:
        return future.exception(120)  # type: ignore[no-any-return]
    except CancelledError as error:
        return error


def soak(seconds: float, backend: str) -> dict[str, Any]:
    """Return the figures; `broken` lists the promises that were."""
    pools = Pools()
    pool = pools.create("soak", SLOTS, backend, memory_bytes=LIMIT_BYTES, timeout_s=60, heartbeat_s=30, queue_size=1000)
    pool.warm()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    run = Soak(pool, seconds)
    acts = [run.calls, run.maps, run.streams, run.sessions, run.faults]
    threads = [threading.Thread(target=run.user, args=(act, seed)) for seed, act in enumerate(acts)]
    threads.append(threading.Thread(target=run.watch))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 180)
    stuck = [thread.name for thread in threads if thread.is_alive()]
    alive = len(set(pool.map(_pid_after, [0.1] * 8 * SLOTS, return_as="list")))
    stats = pool.stats()
    pools.close()
    time.sleep(2)
    orphans = [child.pid for child in psutil.Process().children(recursive=True) if "dspex_nb.pools" in " ".join(child.cmdline())]
    third = max(1, len(run.sizes) // 3)
    early = max(size for _, size, _ in run.sizes[:third])
    late = max(size for _, size, _ in run.sizes[-third:])
    broken = [*dict.fromkeys(run.wrong)][:20]
    broken += [f"stuck: {stuck}"] if stuck else []
    broken += [f"{alive} workers of {SLOTS}"] if alive != SLOTS else []
    broken += [f"orphans: {orphans}"] if orphans else []
    broken += [f"memory grew from {early} to {late}"] if late > early * 1.2 + 20_000_000 else []
    return {
        "seconds": seconds, "backend": backend, **run.counts, "restarts": sum(slot.restarts for slot in stats.slots),
        "pool": {"done": stats.done, "failed": stats.failed, "broken_off": stats.broken_off, "retried": stats.retried},
        "kernel_mb_first_third": round(early / 1e6), "kernel_mb_last_third": round(late / 1e6),
        "threads_first": run.sizes[0][2], "threads_last": run.sizes[-1][2], "processes_before": len(before),
        "workers_at_the_end": alive, "orphans": len(orphans), "broken": broken,
    }  # fmt: skip


def _pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    figures = soak(seconds, sys.argv[2] if len(sys.argv) > 2 else "loky")
    text = json.dumps(figures, indent=1)
    print(text)
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(text, encoding="utf-8")
    return 1 if figures["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
