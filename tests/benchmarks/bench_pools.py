"""What a pool costs, against bare loky, a bare thread pool and a bare Dask client in the same run.

    python tests/benchmarks/bench_pools.py [out.json]

Prints JSON. Both sides are measured alternately, so that a busy machine slows both.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor

from dspex_nb.pools import Pools

ROUNDS, CALLS, ITEMS = 15, 100, 20_000


def plus(x: int) -> int:
    return x + 1


def count(end: int) -> Iterator[int]:
    yield from range(end)


def work(turns: int) -> int:
    total = 0
    for at in range(turns):
        total += at & 3
    return total


def spent(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def trips(submit: Callable[..., Any], calls: int = CALLS) -> float:
    """Return microseconds of one call there and back."""
    return spent(lambda: [submit(plus, 1).result() for _ in range(calls)]) / calls * 1e6


def compared(ours: Callable[..., Any], theirs: Callable[..., Any], calls: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return both ways' best and the median of their ratios, measured in turns."""
    trips(ours, calls), trips(theirs, calls)
    pairs = [(trips(ours, calls), trips(theirs, calls)) for _ in range(rounds)]
    own, other = zip(*pairs, strict=True)
    return {
        "pool_us": min(own), "bare_us": min(other), "ratio": statistics.median(one / two for one, two in pairs),
        "ratio_of_best": min(own) / min(other),
    }  # fmt: skip


def process_trip(pools: Pools) -> dict[str, float]:
    """A process slot against loky's executor."""
    bare = ProcessPoolExecutor(1)
    try:
        return compared(pools.create("trip", 1, "loky").submit, bare.submit, CALLS)
    finally:
        bare.shutdown()


def thread_trip(pools: Pools) -> dict[str, float]:
    """A thread slot against the standard library's executor."""
    with ThreadPoolExecutor(1) as bare:
        return compared(pools.create("threads", 1).submit, bare.submit, 3 * CALLS, 3 * ROUNDS)


def dask_trip(pools: Pools) -> dict[str, float]:
    """A slot on a Dask cluster against `client.submit` to the same worker."""
    if importlib.util.find_spec("distributed") is None:
        return {}
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        pool = pools.create("far", 1, "dask", client=client)
        found = compared(pool.submit, functools.partial(client.submit, pure=False), 20, 7)
        list(pool.stream(count, 10))
        found["items_per_s"] = max(ITEMS / spent(lambda: sum(1 for _ in pool.stream(count, ITEMS))) for _ in range(3))
        pool.close()
        return found


def streaming(pools: Pools) -> dict[str, float]:
    """Items a second, from a process and from a thread."""
    found = {}
    for backend, name in (("loky", "process"), ("thread", "thread")):
        pool = pools.create("stream", 1, backend)
        list(pool.stream(count, 10))
        found[f"{name}_items_per_s"] = max(ITEMS / spent(lambda: sum(1 for _ in pool.stream(count, ITEMS))) for _ in range(5))  # noqa: B023
    return found


def readiness(pools: Pools) -> dict[str, float]:
    """Seconds: to the first result, to a result on every slot when warm, from a cancel to the next result."""
    pool = pools.create("ready", 2, "loky")
    first = spent(lambda: pool.call(plus, 1))
    warm = spent(pool.warm)
    again = max(spent(pool.warm) for _ in range(10))
    cancels, idle = [], []
    for _ in range(5):
        future = pool.submit(time.sleep, 60)
        while not future.running():
            time.sleep(0.005)
        time.sleep(0.05)
        cancels.append(spent(future.cancel))
        idle.append(cancels[-1] + spent(lambda: pool.map(plus, range(4), return_as="list")))
    return {
        "first_result_s": first, "all_slots_first_s": warm, "all_slots_warm_s": again, "cancel_s": max(cancels), "cancel_to_idle_s": max(idle),
    }  # fmt: skip


def speedup(pools: Pools) -> dict[str, float]:
    """Four tasks of pure Python, on one slot and on two: wall time, and how many processors were free meanwhile."""
    one, two = pools.create("one", 1, "loky").warm(), pools.create("two", 2, "loky").warm()
    turns, ratios = 6_000_000, []
    for _ in range(3):
        alone = spent(lambda: one.map(work, [turns] * 4, return_as="list"))
        both = spent(lambda: two.map(work, [turns] * 4, return_as="list"))
        ratios.append(alone / both)
    return {"two_slots_ratio": max(ratios), "median": statistics.median(ratios), "load": os.getloadavg()[0]}


def main() -> None:
    pools = Pools()
    try:
        figures = {
            "process_trip": process_trip(pools), "thread_trip": thread_trip(pools), "dask_trip": dask_trip(pools), "streaming": streaming(pools), "readiness": readiness(pools), "speedup": speedup(pools),
        }  # fmt: skip
    finally:
        pools.close()
    text = json.dumps({name: {key: round(value, 4) for key, value in row.items()} for name, row in figures.items()}, indent=1)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
