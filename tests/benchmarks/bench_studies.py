"""The same study in plain DSPy and in dspex_nb, on a stub server that takes 50 ms an answer: prints one JSON object with ratios.

    python tests/benchmarks/bench_studies.py [ROUNDS] [THREADS]
    python tests/benchmarks/bench_studies.py --recording [PAIRS] [THREADS]

Each part runs in a fresh process with empty caches, and the parts take turns in every round. The time is that of the study
itself, without the start of a process. Quote the ratios: the times are this machine's.

What recording costs is less than two runs of the same study differ by. So the second form runs each study in pairs, recorded
and not, in one process and with an empty cache each time, which of the two goes first alternating; it prints the median of the
pairs' ratios, of the time and of the processor's time, and the middle half of them. Beside them stands what does not depend on
a second run: the run's processor's time over what it is without that of recording itself (handing over events, and the thread
that writes them; a study never waits for it).
"""

import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import stub_server

DELAY_MS = 50
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
STUDIES = {
    "random_search": ("BootstrapFewShotWithRandomSearch", {"num_candidate_programs": 12, "max_labeled_demos": 4}, {}),
    "mipro": (
        "MIPROv2",
        {"auto": None, "num_candidates": 5},
        {"num_trials": 12, "minibatch_size": 40, "minibatch_full_eval_steps": 4},
    ),
}
ROWS = [{"question": f"question {number}", "answer": "Paris"} for number in range(120)]
SEED = 7
SAMPLED = 16


def correct(example, prediction, trace=None):
    return float(example.answer == prediction.answer)


def count(base):
    with urllib.request.urlopen(base + "/count") as reply:
        return json.load(reply)["count"]


def measured(base, work):
    """Return seconds, those of the processor, requests and the best program's state."""
    before = count(base)
    started, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        state = work()
    took, used = time.perf_counter() - started, time.process_time() - cpu
    return {"s": took, "cpu_s": used, "requests": count(base) - before, "state": state}


def plain(base, study, threads):
    """DSPy alone, its own cache on."""
    import dspy

    name, built, compiled = STUDIES[study]
    dspy.configure(lm=dspy.LM("openai/m", api_base=base, api_key="x", temperature=0), disable_history=True)
    examples = [dspy.Example(**row).with_inputs("question") for row in ROWS]
    seeds = {"seed": SEED} if name == "MIPROv2" else {}
    optimizer = getattr(dspy, name)(metric=correct, num_threads=threads, **built, **seeds)
    student = dspy.Predict("question -> answer")
    student(question="warm")
    train, val = examples[:40], examples[40:]
    return measured(base, lambda: optimizer.compile(student, trainset=train, valset=val, **compiled, **seeds).dump_state())


def ours(base, study, threads, *, record=True, accelerate=False):
    """The same as a study's process runs it."""
    from dspex_nb.bridge import StudyPlan, StudyRun
    from dspex_nb.cache import Cache
    from dspex_nb.clients import connect
    from dspex_nb.events import Bus, RunStarted
    from dspex_nb.modules import Predict
    from dspex_nb.scopes import Scope
    from dspex_nb.signatures import Signature
    from dspex_nb.store import Store

    name, built, compiled = STUDIES[study]
    client = connect("openai/m", api_base=base, api_key="x", temperature=0)
    bus = Bus(keep=0)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs.db")
        recorder = None
        if record:
            store.append([RunStarted(run_id="s", name="bench", of="study")])
            recorder = Recording(store, bus)
        plan = StudyPlan(
            program=Predict(Signature("question -> answer")), optimizer=name, metric=correct, trainset=ROWS[:40], valset=ROWS[40:],
            options={**built, **compiled}, adapter="chat", seed=SEED, n_jobs=threads, accelerate=accelerate,
        )  # fmt: skip
        run = StudyRun(plan, client=client, scope=Scope("s", bus), cache=Cache(directory=Path(folder) / "cache"))

        def work():
            outcome = run.run()
            if outcome.status != "done":
                raise SystemExit(outcome.error)
            store.flush()
            return outcome.best.state

        found = measured(base, work)
        found["recording_cpu_s"] = recorder.cpu_s() if recorder else 0.0
        store.close()
    return found


class Recording:
    """The processor's time that a store takes: in the threads that hand events over, and in the one that writes them."""

    def __init__(self, store, bus):
        self.store, self.count, self.sampled_s = store, itertools.count(), 0.0
        bus.subscribe(self.take)

    def take(self, event):
        if next(self.count) % SAMPLED:  # asking for the time costs more than handing over
            self.store.append([event])
        else:
            began = time.thread_time()
            self.store.append([event])
            self.sampled_s += time.thread_time() - began

    def cpu_s(self):
        writer = next(thread for thread in threading.enumerate() if thread.name == "dspex-store")
        return SAMPLED * self.sampled_s + time.clock_gettime(time.pthread_getcpuclockid(writer.ident))


def recording(base, study, threads, pairs):
    """Return the pairs' ratios, recorded over unrecorded, and what recording itself took."""
    ours(base, study, threads)  # imports what the first study does
    ratios = {"s": [], "cpu_s": [], "cpu_s, its own": []}
    for pair in range(pairs):
        order = (True, False) if pair % 2 else (False, True)
        took = {record: ours(base, study, threads, record=record) for record in order}
        for unit in ("s", "cpu_s"):
            ratios[unit].append(took[True][unit] / took[False][unit])
        itself = took[True]["recording_cpu_s"]
        ratios["cpu_s, its own"].append(took[True]["cpu_s"] / (took[True]["cpu_s"] - itself))
    return {unit: spread(found) for unit, found in ratios.items()}


def spread(ratios):
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"median (<= 1.02)": round(middle, 3), "middle half": [round(low, 3), round(high, 3)]}


PARTS = {
    "plain": plain,
    "ours": ours,
    "recording": recording,
    "accelerated": lambda *where: ours(*where, accelerate=True),
}
COMPARED = ("plain", "ours", "accelerated")
SERVER = str(Path(__file__).with_name("study_server.py"))


def run_part(part, base, study, threads, home, *more):
    env = {**os.environ, "DSPEX_HOME": str(home / "dspex"), "DSPY_CACHEDIR": str(home / "dspy")}
    command = [sys.executable, __file__, "--part", part, base, study, str(threads), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{part} of {study} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def same(first, second):
    """Whether two best programs ask alike: the same instructions and demos."""

    def told(state):
        return state["signature"], [{key: value for key, value in demo.items() if key != "augmented"} for demo in state["demos"]]

    return told(first) == told(second)


def number(at, default):
    return int(sys.argv[at]) if len(sys.argv) > at else default


def compare_recording():
    pairs, threads = number(2, 9), number(3, 64)
    found = {}
    with stub_server.running(DELAY_MS, SERVER) as base:
        for study in STUDIES:
            with tempfile.TemporaryDirectory() as home:
                found[study] = run_part("recording", base, study, threads, Path(home), pairs)
    print(json.dumps({"recorded_over_unrecorded": found, "delay_ms": DELAY_MS, "threads": threads, "pairs": pairs}, indent=2))


def main():
    rounds, threads = number(1, 3), number(2, 64)
    seen = {study: {part: [] for part in COMPARED} for study in STUDIES}
    with stub_server.running(DELAY_MS, SERVER) as base:
        for _ in range(rounds):
            for study in STUDIES:
                for part in COMPARED:
                    with tempfile.TemporaryDirectory() as home:  # an empty cache each time
                        seen[study][part].append(run_part(part, base, study, threads, Path(home)))
    found = {}
    for study, parts in seen.items():
        s = {part: statistics.median(one["s"] for one in runs) for part, runs in parts.items()}
        last = {part: runs[-1] for part, runs in parts.items()}
        found[study] = {
            "ours_over_dspy (<= 0.65)": round(s["ours"] / s["plain"], 3),
            "accelerated_over_dspy (<= 0.4)": round(s["accelerated"] / s["plain"], 3),
            "same_best_program": all(same(last["plain"]["state"], one["state"]) for one in last.values()),
            "requests": {part: one["requests"] for part, one in last.items()},
            "cpu_seconds": {part: round(statistics.median(one["cpu_s"] for one in runs), 2) for part, runs in parts.items()},
            "seconds": {part: [round(one["s"], 2) for one in runs] for part, runs in parts.items()},
        }
    print(json.dumps({**found, "delay_ms": DELAY_MS, "threads": threads, "rounds": rounds}, indent=2))


if __name__ == "__main__":
    if "--part" in sys.argv:
        at = sys.argv.index("--part") + 1
        print(json.dumps(PARTS[sys.argv[at]](*sys.argv[at + 1 : at + 3], *map(int, sys.argv[at + 3 :]))))
    elif sys.argv[1:2] == ["--recording"]:
        compare_recording()
    else:
        main()
