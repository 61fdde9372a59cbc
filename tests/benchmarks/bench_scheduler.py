"""What the scheduler costs: a no-op step with its events and their commit, a step in a pool, planning, the step cache.

    python tests/benchmarks/bench_scheduler.py [out.json]

Prints JSON. Ratios are measured alternately in one run, so that a busy machine slows both sides. CPU time is of the whole
process, the store's writer included. `shared/bench/peers_pipeline.py` gives the same ten no-op steps in other libraries.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["DSPEX_HOME"] = tempfile.mkdtemp(prefix="dspex-bench-")

import dspex_nb as dx
from dspex_nb.api.sessions import session
from dspex_nb.pipelines import FieldRef, InputSpec, PipelineSpec, Step, read_cell
from dspex_nb.pools import Pools
from dspex_nb.routing import plan
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope, new_run_id

STEPS, ROUNDS, PAIRS = 10, 7, 80


def plus(x: int) -> int:
    return x + 1


def spent(work: Callable[[], Any], times: int, clock: Callable[[], float] = time.process_time) -> float:
    """Return the seconds of one call, over `times` calls."""
    start = clock()
    for _ in range(times):
        work()
    return (clock() - start) / times


def best(work: Callable[[], Any], times: int, clock: Callable[[], float] = time.process_time) -> float:
    work()
    return min(spent(work, times, clock) for _ in range(ROUNDS))


def chain(length: int) -> PipelineSpec:
    body = "\n".join(["s0: int", *(f"s{at + 1} = native(plus, x=s{at})" for at in range(length))])
    return read_cell("chain", body, {"plus": plus})


def no_op_steps() -> dict[str, float]:
    """Return microseconds a step: through `pipe(…)` with the store attached, its writes flushed within the time."""
    now = session()
    pipe = dx.Pipeline.of(chain(STEPS))
    cpu, wall = [], []
    pipe(s0=1)
    for _ in range(ROUNDS):
        now.store.flush()
        started = time.process_time(), time.perf_counter()
        for _ in range(200):
            pipe(s0=1)
        now.store.flush()
        cpu.append((time.process_time() - started[0]) / 200 / STEPS * 1e6)
        wall.append((time.perf_counter() - started[1]) / 200 / STEPS * 1e6)
    bare = best(lambda: [plus(at) for at in range(STEPS)], 2000) / STEPS * 1e6
    return {"cpu_us": min(cpu), "cpu_us_median": statistics.median(cpu), "wall_us": min(wall), "bare_call_us": bare}


def pool_step(backend: str, work: Callable[..., Any], argument: Any) -> dict[str, float]:
    """Return the time of a step in a pool against a bare submit of the same function, alternately; wall time, for it waits."""
    pools = Pools()
    pool = pools.create("bench", 1, backend)
    now = session()
    names = [("x", ""), *((f"y{at}", f"y{at}") for at in range(STEPS))]
    steps_ = tuple(
        Step(name, "function", callable=work, bindings={"x": FieldRef(*names[at])}, writes=(name,), pool="bench")
        for at, (name, _) in enumerate(names[1:])
    )
    spec = PipelineSpec("p", (InputSpec("x"),), steps_)
    inside = now.__class__(pools=pools, bus=now.bus, store=now.store)
    fixed = plan(spec, inside)

    def run() -> Any:
        return execute(spec, fixed, {"x": argument}, session=inside, scope=Scope(new_run_id(), now.bus))

    def bare() -> Any:
        for _ in range(STEPS):
            pool.submit(work, argument).result()

    try:
        run(), bare()
        ratios, bares, steps = [], [], []
        for _ in range(PAIRS):  # short ones: a machine's speed changes within a second
            bares.append(spent(bare, 3, time.perf_counter) / STEPS)
            steps.append(spent(run, 3, time.perf_counter) / STEPS)
            ratios.append(steps[-1] / bares[-1])
    finally:
        pools.close()
    middle = [statistics.median(found) * 1e6 for found in (bares, steps)]
    return {"bare_us": middle[0], "step_us": middle[1], "ratio": statistics.median(ratios), "ratio_best": min(steps) / min(bares)}


def a_millisecond(x: int) -> int:
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return x


def planning() -> dict[str, float]:
    """Return milliseconds of a pipeline of 1,000 steps: read from its cell, planned, run the first time."""
    body = "\n".join(["s0: int", *(f"s{at + 1} = native(plus, x=s{max(0, at - at % 7)})" for at in range(1000))])
    read = best_of(lambda: read_cell("big", body, {"plus": plus}))
    spec = read_cell("big", body, {"plus": plus})
    now = session()
    planned = best_of(lambda: plan(spec, now))
    first = best_of(lambda: execute(spec, plan(spec, now), {"s0": 1}, session=now, scope=Scope(new_run_id(), now.bus)))
    return {"read_ms": read * 1e3, "plan_ms": planned * 1e3, "plan_and_run_ms": first * 1e3}


def best_of(work: Callable[[], Any]) -> float:
    return min(spent(work, 1) for _ in range(3))


def step_cache() -> dict[str, float]:
    """Return microseconds of a cached step that is found, and of one that is not and is written."""
    pipe = dx.Pipeline("cached", y=dx.native(plus, x=dx.field("x"), cache=True))
    numbers = iter(range(10**9))
    miss = best(lambda: pipe(x=next(numbers)), 40) * 1e6
    return {"hit_us": best(lambda: pipe(x=0), 100) * 1e6, "miss_us": miss}


def main() -> None:
    figures = {
        "no_op_step": no_op_steps(),
        "pool_thread": pool_step("thread", plus, 1),
        "pool_thread_1ms": pool_step("thread", a_millisecond, 1),
        "pool_process": pool_step("loky", plus, 1),
        "pool_process_1ms": pool_step("loky", a_millisecond, 1),
        "graph_of_1000": planning(),
        "step_cache": step_cache(),
    }
    text = json.dumps({name: {key: round(value, 3) for key, value in row.items()} for name, row in figures.items()}, indent=1)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
