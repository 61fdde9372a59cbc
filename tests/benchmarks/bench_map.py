"""10,000 rows through three steps (two LM steps and a function) against the same LM calls alone: prints one JSON object.

    python tests/benchmarks/bench_map.py [ROUNDS] [ROWS]

Each part runs in a fresh process, and the parts take turns in every round. Quote the ratio and the growth of memory: the times
are this machine's. The stub server has no delay, so that what is measured is ours.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import stub_server

WIDTH = 64


def session(base):
    import dspex_nb as dx

    dx.configure(lm=dx.LM("openai/m", api_base=base, api_key="x", cache=False), cache=None)
    return dx


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def shorten(first):
    return first[:20]


def alone(base, rows):
    """The calls themselves: as many as the map makes."""
    dx = session(base)
    predict = dx.Predict("question -> answer")
    predict.batch([{"question": "warm"}] * 500, n_jobs=WIDTH)
    calls = [{"question": f"q{index}"} for index in range(2 * rows)]
    started, cpu = time.perf_counter(), time.process_time()
    for _ in predict.batch(calls, n_jobs=WIDTH, return_as="generator"):
        pass
    return {"alone_s": time.perf_counter() - started, "alone_cpu_s": time.process_time() - cpu}


def mapped(base, rows):
    """The map, its results taken from a generator; memory is looked at every 1,000 rows after the first 2,000."""
    dx = session(base)
    pipe = dx.Pipeline(
        "bench",
        ask=dx.predict("question -> answer"),
        cut=dx.native(shorten, first=dx.field("answer")),
        again=dx.predict("draft, cut -> answer", draft=dx.field("answer")),
        inputs={"question": str},
    )
    for _ in pipe.map([{"question": f"warm{index}"} for index in range(500)], n_jobs=WIDTH, return_as="generator"):
        pass
    data = ({"question": f"q{index}"} for index in range(rows))
    started, cpu, sizes, count = time.perf_counter(), time.process_time(), [], 0
    for record in pipe.map(data, n_jobs=WIDTH, return_as="generator"):
        assert record["error"] is None, record
        count += 1
        if count >= min(2000, rows // 2) and count % 500 == 0:
            sizes.append(resident_mb())
    assert count == rows
    took = {"mapped_s": time.perf_counter() - started, "mapped_cpu_s": time.process_time() - cpu}
    return {**took, "memory_growth_mb": max(sizes) - sizes[0] if sizes else 0.0}


PARTS = {"alone": alone, "mapped": mapped}


def run_part(name, base, rows, home):
    env = {**os.environ, "DSPEX_HOME": str(home)}
    done = subprocess.run([sys.executable, __file__, "--part", name, base, str(rows)], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    seen = {}
    with stub_server.running() as base, tempfile.TemporaryDirectory() as home:
        for name in list(PARTS) * rounds:
            for figure, value in run_part(name, base, rows, Path(home)).items():
                seen.setdefault(figure, []).append(value)
    found = {name: statistics.median(values) for name, values in seen.items()}
    print(json.dumps({
        "ratios": {
            "map_over_calls_alone (<= 1.3)": round(found["mapped_s"] / found["alone_s"], 2),
            "map_over_calls_alone_cpu": round(found["mapped_cpu_s"] / found["alone_cpu_s"], 2),
            "memory_growth_mb (flat)": round(found["memory_growth_mb"], 1),
        },
        "medians": {name: round(value, 3) for name, value in found.items()},
        "all": {name: [round(value, 3) for value in values] for name, values in seen.items()},
        "rows": rows, "in_flight": WIDTH, "rounds": rounds,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    if "--part" in sys.argv:
        print(json.dumps(PARTS[sys.argv[2]](sys.argv[3], int(sys.argv[4]))))
    else:
        main()
