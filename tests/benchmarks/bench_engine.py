"""The engine against DSPy and against bare HTTP, on one stub server in one run: prints one JSON object with ratios.

    python tests/benchmarks/bench_engine.py [ROUNDS]

Each part runs in a fresh process, and the parts take turns in every round, so that load falls on all alike; figures are
medians over the rounds. Every part's name says whether a cache is on. Quote the ratios: the times are this machine's.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import stub_server

CALLS, WIDTH, SINGLE = 4000, 64, 500
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
PAYLOAD = json.dumps(
    {"model": "m", "messages": [{"role": "system", "content": "x" * 700}, {"role": "user", "content": "y" * 300}]}
)


def per_call_ms(count, work):
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / count * 1e3


# --- the parts: each gives {figure: value} in a process of its own ------------------------------------------------------


def raw(base):
    """aiohttp alone, nothing around it: what the wire allows."""
    import aiohttp

    async def measure():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=WIDTH)) as http:

            async def one():
                async with http.post(
                    f"{base}/chat/completions", data=PAYLOAD, headers={"content-type": "application/json"}
                ) as reply:
                    return await reply.json()

            await one()
            started = time.perf_counter()
            for _ in range(SINGLE):
                await one()
            single_ms = (time.perf_counter() - started) / SINGLE * 1e3
            gate = asyncio.Semaphore(WIDTH)

            async def gated():
                async with gate:
                    await one()

            started = time.perf_counter()
            await asyncio.gather(*(gated() for _ in range(CALLS)))
            return {"raw_sequential_ms": single_ms, "raw_calls_per_s": CALLS / (time.perf_counter() - started)}

    return asyncio.run(measure())


def _dspy(base, **options):
    import dspy

    dspy.configure(lm=dspy.LM("openai/m", api_base=base, api_key="x", **options))
    return dspy


def _parallel(dspy, program, count):
    batch = [(program, dspy.Example(question=f"p{index}").with_inputs("question")) for index in range(count)]
    return 1e3 / per_call_ms(count, lambda: dspy.Parallel(num_threads=WIDTH, disable_progress_bar=True)(batch))


def dspy_cache_off(base):
    dspy = _dspy(base, cache=False)
    predict = dspy.Predict("question -> answer")
    predict(question="warm")
    single_ms = per_call_ms(SINGLE, lambda: [predict(question=f"q{index}") for index in range(SINGLE)])
    return {"dspy_sequential_ms": single_ms, "dspy_calls_per_s": _parallel(dspy, predict, CALLS // 4)}


def dspy_cache_on(base):
    dspy = _dspy(base, cache=True)
    predict = dspy.Predict("question -> answer")
    predict(question="hit")
    return {"dspy_memory_hit_ms": per_call_ms(SINGLE, lambda: [predict(question="hit") for _ in range(SINGLE)])}


def dspy_disk_fill(base):
    dspy = _dspy(base, cache=True)
    predict = dspy.Predict("question -> answer")
    for index in range(SINGLE):
        predict(question=f"d{index}")
    return {}


def dspy_disk(base):
    dspy = _dspy(base, cache=True)
    predict = dspy.Predict("question -> answer")
    predict(question="warm")
    return {"dspy_disk_hit_ms": per_call_ms(SINGLE, lambda: [predict(question=f"d{index}") for index in range(SINGLE)])}


def _ours(base, **options):
    import dspex_nb as dx

    dx.configure(lm=dx.LM("openai/m", api_base=base, api_key="x", **options))
    return dx


def native_cache_off(base):
    dx = _ours(base, cache=False)
    predict = dx.Predict("question -> answer")
    predict(question="warm")
    single_ms = per_call_ms(SINGLE, lambda: [predict(question=f"q{index}") for index in range(SINGLE)])
    rows = [{"question": f"p{index}"} for index in range(CALLS)]
    predict.batch(rows[:WIDTH], n_jobs=WIDTH)
    return {
        "native_sequential_ms": single_ms,
        "native_calls_per_s": 1e3 / per_call_ms(CALLS, lambda: predict.batch(rows, n_jobs=WIDTH)),
    }


def native_cache_on(base):
    dx = _ours(base)
    predict = dx.Predict("question -> answer")
    predict(question="hit")
    count = SINGLE * 4
    return {"native_memory_hit_ms": per_call_ms(count, lambda: [predict(question="hit") for _ in range(count)])}


def native_disk_fill(base):
    dx = _ours(base)
    dx.Predict("question -> answer").batch([{"question": f"d{index}"} for index in range(SINGLE)], n_jobs=WIDTH)
    return {}


def native_disk(base):
    dx = _ours(base)
    predict = dx.Predict("question -> answer")
    predict(question="warm")
    return {"native_disk_hit_ms": per_call_ms(SINGLE, lambda: [predict(question=f"d{index}") for index in range(SINGLE)])}


def instant_engine(base):
    """DSPy with an engine that answers at once: the most any engine below `dspy.LM` can reach."""
    import dspy
    from dspy.lm15 import Message, Response, TextPart, Usage

    text = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"

    class Instant:
        def complete(self, request):
            usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
            return Response(id=None, model="m", message=Message.assistant([TextPart(text)]), finish_reason="stop", usage=usage)

        def close(self):
            pass

    dspy.configure(lm=dspy.LM("openai/m", engine=Instant(), cache=False))
    predict = dspy.Predict("question -> answer")
    predict(question="warm")
    return {"instant_engine_calls_per_s": _parallel(dspy, predict, CALLS // 2)}


def dspy_on_our_client(base):
    dx = _ours(base, cache=False)
    import dspy

    dspy.configure(lm=dx.LM("openai/m", api_base=base, api_key="x", cache=False).dspy)
    predict = dspy.Predict("question -> answer")
    predict(question="warm")
    return {"dspy_on_our_client_calls_per_s": _parallel(dspy, predict, CALLS // 2)}


def accelerated(base):
    dx = _ours(base, cache=False)
    import dspy

    dspy.configure(lm=dx.LM("openai/m", api_base=base, api_key="x", cache=False).dspy)
    predict = dx.accelerate(dspy.Predict("question -> answer"))
    predict(question="warm")
    return {"accelerated_calls_per_s": _parallel(dspy, predict, CALLS // 2)}


def memory_of_100k(base):
    """Resident memory while 100,000 calls are taken from a generator, read every 5,000."""
    dx = _ours(base, cache=False)
    predict = dx.Predict("question -> answer")
    predict.batch([{"question": "warm"}] * 2000, n_jobs=WIDTH)
    before, peak, started = _resident_mb(), 0.0, time.perf_counter()
    count = 0
    rows = ({"question": f"m{index}"} for index in range(100_000))
    for _ in predict.batch(rows, n_jobs=WIDTH, return_as="generator"):
        count += 1
        if count % 5000 == 0:
            peak = max(peak, _resident_mb())
    assert count == 100_000
    return {"memory_100k_growth_mb": peak - before, "memory_100k_calls_per_s": count / (time.perf_counter() - started)}


def _resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


EACH_ROUND = (
    raw, dspy_cache_off, native_cache_off, dspy_cache_on, native_cache_on, dspy_disk, native_disk, instant_engine,
    dspy_on_our_client, accelerated,
)  # fmt: skip
ONCE_BEFORE = (dspy_disk_fill, native_disk_fill)
ONCE_AFTER = (memory_of_100k,)
PARTS = {part.__name__: part for part in (*ONCE_BEFORE, *EACH_ROUND, *ONCE_AFTER)}


def ratios(found):
    """What the issue's table asks for: name -> (ratio, at least or at most, bound)."""
    return {
        "batch_over_dspy (>= 10)": found["native_calls_per_s"] / found["dspy_calls_per_s"],
        "batch_over_raw (>= 0.5)": found["native_calls_per_s"] / found["raw_calls_per_s"],
        "sequential_over_raw (<= 1.3)": found["native_sequential_ms"] / found["raw_sequential_ms"],
        "memory_hit_faster_than_dspy (>= 15)": found["dspy_memory_hit_ms"] / found["native_memory_hit_ms"],
        "disk_hit_over_dspy (<= 1)": found["native_disk_hit_ms"] / found["dspy_disk_hit_ms"],
        "dspy_on_our_client_over_dspy (>= 2.5)": found["dspy_on_our_client_calls_per_s"] / found["dspy_calls_per_s"],
        "dspy_on_our_client_over_instant (>= 0.5)": found["dspy_on_our_client_calls_per_s"] / found["instant_engine_calls_per_s"],
        "accelerated_over_dspy (>= 5)": found["accelerated_calls_per_s"] / found["dspy_calls_per_s"],
        "memory_100k_growth_mb (<= 50)": found["memory_100k_growth_mb"],
    }


def run_part(part, base, home):
    env = {**os.environ, "DSPEX_HOME": str(home / "dspex"), "DSPY_CACHEDIR": str(home / "dspy")}
    done = subprocess.run([sys.executable, __file__, "--part", part.__name__, base], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{part.__name__} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seen = {}
    with stub_server.running() as base, tempfile.TemporaryDirectory() as home:
        for part in (*ONCE_BEFORE, *EACH_ROUND * rounds, *ONCE_AFTER):
            for name, value in run_part(part, base, Path(home)).items():
                seen.setdefault(name, []).append(value)
    found = {name: statistics.median(values) for name, values in seen.items()}
    print(json.dumps({
        "ratios": {name: round(value, 2) for name, value in ratios(found).items()},
        "medians": {name: round(value, 4) for name, value in found.items()},
        "all": {name: [round(value, 4) for value in values] for name, values in seen.items()},
        "calls": CALLS, "in_flight": WIDTH, "rounds": rounds,
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    if "--part" in sys.argv:
        print(json.dumps(PARTS[sys.argv[2]](sys.argv[3])))
    else:
        main()
