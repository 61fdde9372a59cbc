"""Evaluations of 10,000 rows: how long a look at the rows takes, and what an evaluation costs beside the calls alone.

    python tests/benchmarks/bench_evaluation.py [ROWS]

Prints one JSON object. `find_ms`, `order_ms` and `page_ms` are what the kernel does for one keystroke, one click on a heading
and one turn of a page, the drawing included; `live_ms` is one refresh of the running view; `kept_bytes` is what a row takes on
disk with its trace. `overhead` is the time of an evaluation, rows and traces written to disk, over that of the same calls as a
batch: a ratio of one run. The model answers at once, so that what is measured is ours.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
WIDTH = 16


def median_ms(work, rounds=15):
    times = []
    for at in range(rounds):
        started = time.perf_counter()
        work(at)
        times.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(times), 1)


def main(home):
    os.environ["DSPEX_HOME"] = home
    import dspex_nb as dx
    from dspex_nb import views as v
    from dspex_nb.testing import ScriptedLM

    dx.configure(lm=ScriptedLM(lambda request: '{"desk": "billing"}', max_concurrency=WIDTH), adapter="json", cache=False)
    predict = dx.Predict("message -> desk: Literal['billing', 'tech']")
    rows = [
        {"message": f"Customer number {i} writes about parcel {i * 7919 % 10007}.", "desk": "tech" if i % 3 else "billing"}
        for i in range(ROWS)
    ]
    predict.batch(rows[:200], n_jobs=WIDTH)

    started = time.perf_counter()
    predict.batch([{"message": row["message"]} for row in rows], n_jobs=WIDTH)
    alone_s = time.perf_counter() - started
    started = time.perf_counter()
    evaluation = dx.evaluate(predict, rows, "exact_match:desk", n_jobs=WIDTH)
    evaluated_s = time.perf_counter() - started
    folder = Path(home) / "evaluations" / evaluation.id
    kept = sum(file.stat().st_size for file in folder.iterdir())

    started = time.perf_counter()
    info = evaluation.info()
    info_s = time.perf_counter() - started
    table = v.ExampleTable(["exact_match:desk"], info.examples)
    first = median_ms(lambda _: table.find("parcel"), 1) + median_ms(lambda _: table.html(), 1)

    def after(change, value):
        change(value)
        return table.html()

    result = {
        "rows": ROWS,
        "first_find_ms": first,  # the texts are put together once
        "find_ms": median_ms(lambda at: after(table.find, f"parcel {at}")),
        "order_ms": median_ms(lambda at: after(table.order, ("time", "exact_match:desk", "#")[at % 3])),
        "page_ms": median_ms(lambda at: after(table.turn, str(at))),
        "open_ms": median_ms(lambda at: after(table.open, str(at))),
    }
    fresh = v.ExampleTable(["exact_match:desk"], info.examples[:-20])

    def live(at):
        fresh.add(info.examples[at - 20])
        v.evaluating_html(v.ProgressInfo("e", "evaluation", "running", ROWS, ROWS), fresh)

    started = time.perf_counter()
    loaded = dx.load_evaluation(evaluation.id)
    load_s = time.perf_counter() - started
    page = evaluation.save(Path(home) / "e.html")
    result |= {
        "live_ms": median_ms(live),
        "info_s": round(info_s, 2),
        "load_s": round(load_s, 2),
        "kept_bytes": round(kept / ROWS),
        "page_mb": round(page.stat().st_size / 1e6, 2),
        "alone_s": round(alone_s, 2),
        "evaluated_s": round(evaluated_s, 2),
        "overhead": round(evaluated_s / alone_s, 2),
    }
    assert len(loaded.card.rows) == ROWS
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
