"""A dashboard of 10,000 trials that go on being written: how long a refresh takes, and how soon the kernel answers a cell.

    python tests/benchmarks/bench_dashboard.py [TRIALS] [EXAMPLES]

A real kernel shows the dashboard of a study which this process goes on writing, about 15 trials a second. Each tab is looked at
for a few seconds. Prints one JSON object: per tab the median and 95th percentile of a refresh (reading what is new, HTML, plot) and
of a cell's round trip (`1 + 1`), beside the kernel's round trip before the dashboard was shown. `cpu` is a refresh's own time on
the processor, which other work on the machine does not lengthen.
"""

import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import synthetic_study
from jupyter_client.manager import start_new_kernel

from dspex_nb.events import RunStarted
from dspex_nb.store import Store

TABS = ("history", "spending", "cost", "minibatch", "examples", "choices", "parallel", "candidates")
LOOK_S = 4.0
SHOW = """
import json, time
import dspex_nb as dx
from dspex_nb.api.study_views import Dashboard
times, cpu = [], []
draw = Dashboard.html
def timed(self):
    started, used = time.perf_counter(), time.thread_time()
    html = draw(self)
    self.plot()
    times.append(time.perf_counter() - started)
    cpu.append(time.thread_time() - used)
    boards.append(self)
    return html
boards = []
Dashboard.html = timed
started = time.perf_counter()
study = dx.load_study("s")
study.dashboard()
print(json.dumps(time.perf_counter() - started))
"""


def ask(client, code):
    """Run a cell and return what it printed or gave, and the seconds until the kernel had answered."""
    said = []
    started = time.perf_counter()
    client.execute_interactive(code, timeout=120, output_hook=said.append)
    took = time.perf_counter() - started
    texts = [
        m["content"].get("text") or m["content"].get("data", {}).get("text/plain", "")
        for m in said
        if m["msg_type"] in ("stream", "execute_result")
    ]
    errors = [m["content"]["evalue"] for m in said if m["msg_type"] == "error"]
    if errors:
        raise RuntimeError(errors[0])
    return "".join(texts), took


def spread(seconds):
    ordered = sorted(seconds)
    p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return {"n": len(ordered), "median_ms": round(1000 * statistics.median(ordered), 1), "p95_ms": round(1000 * p95, 1)}


def round_trips(client, seconds):
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        found.append(ask(client, "1 + 1")[1])
        time.sleep(0.05)
    return found


def written(store, following, ended):
    """Go on writing trials, one every 50 ms."""
    while not ended.wait(0.05):
        store.append(itertools.islice(following, 12))


def main(trials, examples):
    home = Path(tempfile.mkdtemp())
    os.environ["DSPEX_HOME"] = str(home)
    store = Store(home / "runs.sqlite")
    following = (e for e in synthetic_study.events(trials + 4000, examples) if not isinstance(e, RunStarted))
    first = next(synthetic_study.events(1, 1))
    store.append([replace(first, total=trials + 4000)])
    for event in following:
        store.append([event])
        if getattr(event, "trial", 0) == trials:
            break
    store.flush(600)
    store.own("s")
    manager, client = start_new_kernel()
    ended = threading.Event()
    try:
        ask(client, "import dspex_nb as dx; dx.session()")
        idle = round_trips(client, 2.0)
        result = {"trials": trials, "examples": examples, "cell_before": spread(idle), "tabs": {}}
        result["first_display_s"] = round(float(ask(client, SHOW)[0].strip().splitlines()[-1]), 2)
        threading.Thread(target=written, args=(store, following, ended), daemon=True).start()
        for tab in TABS:
            ask(client, f"boards[-1].choose('plot', {tab!r}); time.sleep(1.0); times.clear(); cpu.clear()")
            cells = round_trips(client, LOOK_S)
            refreshes, cpu = json.loads(ask(client, "print(json.dumps([times, cpu]))")[0])
            result["tabs"][tab] = {"refresh": spread(refreshes), "cpu": spread(cpu), "cell": spread(cells)}
        result["worst_refresh_median_ms"] = max(tab["refresh"]["median_ms"] for tab in result["tabs"].values())
        result["worst_cpu_median_ms"] = max(tab["cpu"]["median_ms"] for tab in result["tabs"].values())
        result["worst_cell_p95_ms"] = max(tab["cell"]["p95_ms"] for tab in result["tabs"].values())
        result["trials_at_end"] = int(ask(client, "print(len(study.feed.snapshot().trials))")[0])
        print(json.dumps(result, indent=1))
    finally:
        ended.set()
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
