"""What goes wrong in a study: failing calls, failing metrics, a full disk, stragglers, budgets; nothing recorded is lost."""

import collections
import json
import sqlite3
import threading
import time

import dspy
import pytest

from dspex_nb.bridge import StudyPlan, StudyRun
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.events import Bus, LMCalled, RowScored, RunStarted, TrialEnded
from dspex_nb.modules import Predict
from dspex_nb.runs.budgets import Budget, BudgetGate
from dspex_nb.scopes import Scope
from dspex_nb.signatures import Signature
from dspex_nb.store import LMUsage, Store

from .answering import answer

ROWS = [{"question": f"question {number}", "answer": "yes"} for number in range(16)]
SEARCH = ("BootstrapFewShotWithRandomSearch", {"num_candidate_programs": 2, "max_labeled_demos": 2, "max_bootstrapped_demos": 2})
MIPRO = ("MIPROv2", {"num_candidates": 3, "num_trials": 4, "minibatch_size": 4, "minibatch_full_eval_steps": 2})


def correct(example, prediction, trace=None):
    return float(example.answer == prediction.answer)


@pytest.fixture
def begin(model_server, tmp_path):
    """Returns a study ready to run, its events, and its server."""

    def start(optimizer, options, answers=answer, metric=correct, bus=None, folder="cache", n_jobs=4, scope=None, **settings):
        server = model_server(answers)
        client = connect("openai/stub", api_base=server.url, api_key="x", temperature=0, **{"num_retries": 0, **settings})
        plan = StudyPlan(
            program=Predict(Signature("question -> answer", "Answer the question.")), optimizer=optimizer, metric=metric,
            trainset=ROWS, options=options, adapter="chat", seed=3, n_jobs=n_jobs,
        )  # fmt: skip
        bus = bus or Bus(keep=0)
        seen = []
        bus.subscribe(seen.append)
        run = StudyRun(plan, client=client, scope=scope or Scope("s", bus), cache=Cache(directory=tmp_path / folder))
        return run, seen, server

    return start


class Failing:
    """Fails every fifth request, whatever it asks; the same request asked again may succeed."""

    def __init__(self):
        self.count, self.lock = 0, threading.Lock()

    def __call__(self, body):
        with self.lock:
            self.count += 1
            failed = self.count % 5 == 0
        return gone(body) if failed else answer(body)


def gone(body):
    return 500


@pytest.mark.parametrize(("optimizer", "options"), [SEARCH, MIPRO, ("COPRO", {"breadth": 2, "depth": 1})])
def test_a_fifth_of_the_calls_failing_ends_no_study(optimizer, options, begin):
    run, seen, _ = begin(optimizer, options, Failing())
    outcome = run.run()
    assert (outcome.status, outcome.error) == ("done", None)
    failed = [event for event in seen if isinstance(event, RowScored) and event.error]
    ended = [event for event in seen if isinstance(event, TrialEnded)]
    assert failed
    assert sum(event.info.get("errors", 0) for event in ended) == len(
        {(row.trial, row.index) for row in failed if row.trial is not None}
    )
    assert all(event.score is not None for event in ended)


def test_a_server_that_is_gone_ends_it_with_the_cause_and_the_best(begin):
    run, seen, server = begin(*SEARCH)
    scored = []

    def watch(event):
        if isinstance(event, TrialEnded):
            scored.append(event)
            if len(scored) == 2:
                server.answer = gone

    run.watch.scope.bus.subscribe(watch)
    outcome = run.run()
    assert outcome.status == "failed"
    assert "127.0.0.1" in outcome.error
    assert outcome.best.score == max(event.score for event in scored)
    assert sum(isinstance(event, LMCalled) and event.error is not None for event in seen) < 80


def test_a_disk_that_is_full_for_a_while_loses_no_record(begin, tmp_path, monkeypatch):
    monkeypatch.setattr("dspex_nb.store.writer._RETRY_S", 0.02)
    store = Store(tmp_path / "runs.db")
    bus = Bus(keep=0)
    store.attach(bus)
    store.append([RunStarted(run_id="s", name="n", of="study")])
    store.flush()
    pages = store._writer._connection.execute("PRAGMA page_count").fetchone()[0]
    store._writer._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    run, seen, _ = begin(*SEARCH, bus=bus)
    assert run.run().status == "done"
    assert not store.flush(0.2)
    assert any("full" in fault for fault in store.faults)
    store._writer._connection.execute("PRAGMA max_page_count = 1000000")
    assert store.flush(5)
    calls = [event for event in seen if isinstance(event, LMCalled)]
    assert len(store.calls("s")) == len(calls) > 0
    assert [row.score for row in store.trials("s")] == [event.score for event in seen if isinstance(event, TrialEnded)]
    assert len(store.examples("s")) == sum(isinstance(event, RowScored) and event.trial is not None for event in seen)
    store.close()


def test_two_kernels_write_one_store(tmp_path):
    stores = [Store(tmp_path / "runs.db") for _ in range(2)]

    def write(store, run_id):
        store.append([RunStarted(run_id=run_id, name="n", of="study")])
        for at in range(300):
            store.append([
                LMCalled(run_id=run_id, model="m", trial=0, index=at, cost=0.5),
                RowScored(run_id=run_id, trial=0, index=at, scores={"f1": 1.0}),
            ])  # fmt: skip
            if at % 50 == 0:
                store.flush()

    threads = [threading.Thread(target=write, args=pair) for pair in zip(stores, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(store.flush() for store in stores)
    for run_id in "ab":
        assert [call.index for call in stores[0].calls(run_id)] == list(range(300))
        assert (stores[1].usage(run_id).calls, stores[1].usage(run_id).cost) == (300, 150.0)
        assert len(stores[0].examples(run_id)) == 300
    assert stores[0].faults == stores[1].faults == []
    for store in stores:
        store.close()
    with sqlite3.connect(tmp_path / "runs.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_straggler_that_is_asked_for_again_is_paid_once(begin, monkeypatch):
    """DSPy submits the last examples anew where they take long; both wait for one request."""
    slow = threading.Event()

    def answers(body):
        if "question 7" in str(body["messages"][-1]["content"]) and not slow.is_set():
            slow.set()
            time.sleep(1.6)
        return answer(body)

    plain = dspy.utils.parallelizer.ParallelExecutor.__init__
    monkeypatch.setattr(
        dspy.utils.parallelizer.ParallelExecutor, "__init__", lambda self, *a, **k: plain(self, *a, **{**k, "timeout": 0.2})
    )
    run, seen, server = begin("LabeledFewShot", {"k": 2}, answers)
    assert run.run().status == "done"
    asked = collections.Counter(json.dumps(body) for body in server.bodies)
    assert set(asked.values()) == {1}
    flights = [event for event in seen if isinstance(event, LMCalled) and event.cached == "flight"]
    assert flights


def test_the_same_seed_gives_the_same_candidates_whatever_the_threads_do(begin):
    def jittery(body):
        time.sleep((hash(str(body)) % 7) / 1000)
        return answer(body)

    found = []
    for number, (answers, n_jobs) in enumerate([(answer, 1), (jittery, 8)]):
        run, seen, _ = begin(*MIPRO, answers, folder=f"cache{number}", n_jobs=n_jobs)
        assert run.run().status == "done"
        found.append([(event.score, event.info["kind"], event.info["state"]) for event in seen if isinstance(event, TrialEnded)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        (0.5, {"dollars": 0.5}),
        ("$0.50", {"dollars": 0.5}),
        ("500 calls", {"calls": 500}),
        ("200k tokens", {"tokens": 200_000}),
        ("10 min", {"seconds": 600.0}),
        ("90s, 1.5k calls", {"seconds": 90.0, "calls": 1500}),
        ({"dollars": 1, "minutes": 2}, {"dollars": 1, "seconds": 120}),
    ],
)
def test_budgets_are_read_as_people_write_them(given, limits):
    assert Budget.read(given) == Budget(**limits)


def test_a_budget_refuses_what_would_go_beyond_and_lets_the_rest_finish():
    refused = []
    gate = BudgetGate(Budget(dollars=1.0), LMUsage(calls=2, cost=0.4), refused.append)
    for _ in range(3):  # 0.2 a call so far: 0.4 paid and three in flight fill it
        gate.admit()
    with pytest.raises(Exception, match=r"the budget of \$1 is used up"):
        gate.admit()
    with pytest.raises(Exception, match="used up"):
        gate.admit()
    assert refused == ["the budget of $1 is used up"]
    threading.Timer(0.1, lambda: [gate.take(LMCalled(run_id="s", model="m", cost=0.2)) for _ in range(3)]).start()
    gate.drain(5)
    assert gate._in_flight == 0


def test_a_budget_of_calls_is_kept_exactly_and_hits_are_free(begin):
    bus = Bus(keep=0)
    run_of = {}
    gate = BudgetGate(Budget(calls=30), LMUsage(), lambda reason: run_of["run"].watch.halt())
    bus.subscribe(gate.take)
    run, seen, server = begin(*SEARCH, bus=bus, scope=Scope("s", bus, admit=gate.admit))
    run_of["run"] = run
    outcome = run.run()
    gate.drain(5)
    assert outcome.status == "stopped"
    assert len(server.bodies) == 30
    assert sum(isinstance(event, LMCalled) and event.cached is None for event in seen) == 30
    assert outcome.best.score is not None
