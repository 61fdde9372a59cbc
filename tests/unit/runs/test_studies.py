"""Studies in real child processes: run, watched, stopped, paused, failed, and found again after a death."""

import http.server
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import dspy
import pytest

from dspex_nb.ambient import Session
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.errors import OptimizerError, StudyError
from dspex_nb.events import Bus, LMCalled, Progress, RowScored, RunEnded, RunStarted, TrialEnded, TrialStarted
from dspex_nb.modules import Predict
from dspex_nb.runs.studies import candidates_known, load_study, start_study, studies
from dspex_nb.runs.study_task import TASK
from dspex_nb.signatures import Signature
from dspex_nb.store import Owner, Store, is_alive

SERVER = """
import http.server, json, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(DELAY[0])
        LOG.append(body)
        demos = len(body["messages"]) // 2 - 1
        text = body["messages"][-1]["content"]
        answer = "yes" if demos > 0 or "0" in text else "no"
        reply = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": json.dumps({"answer": answer})}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
    def log_message(self, *args):
        pass
"""
ROWS = [{"question": f"question {i}", "answer": "yes"} for i in range(12)]


class Stub:
    """Answers "yes" to prompts with demos and to questions with a 0 in them, "no" otherwise."""

    def __init__(self):
        space = {"DELAY": [0.0], "LOG": []}
        exec(SERVER, space)  # noqa: S102 - the handler that the killed kernel of the last test runs too
        self.delay, self.bodies = space["DELAY"], space["LOG"]
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), space["Handler"])
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def stub():
    made = Stub()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def session(stub, tmp_path):
    client = connect("openai/stub", api_base=stub.url, api_key="sk-secret-1234", temperature=0, num_retries=1)
    store = Store(tmp_path / "runs.db")
    bus = Bus()
    store.attach(bus)
    yield Session(lm=client, cache=Cache(directory=tmp_path / "cache"), store=store, bus=bus, adapter="compact")
    store.close()


@pytest.fixture
def begin(session, tmp_path):
    made = []

    def start(optimizer="BootstrapFewShotWithRandomSearch", metric=None, rows=ROWS, **rest):
        folder = tmp_path / f"study{len(made)}"
        options = rest.pop("options", {"num_candidate_programs": 1, "max_labeled_demos": 2, "max_bootstrapped_demos": 1})
        study = start_study(
            rest.pop("program", Predict(Signature("question -> answer"))), optimizer=optimizer, metric=metric or same,
            trainset=rows, valset=rest.pop("valset", rows[:6]), session=session, options=options, folder=folder, n_jobs=2, **rest,
        )  # fmt: skip
        made.append(study)
        return study

    yield start
    for study in made:
        if study._child.alive:
            study._child.kill()


def same(example, prediction, trace=None):
    return example.answer == prediction.answer


def until(condition, timeout_s=90.0):  # a study's process starts within 3 s, on a busy machine within 40
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_number_of_candidates_is_known_for_random_search_only():
    search = "BootstrapFewShotWithRandomSearch"
    assert candidates_known(search, {"num_candidate_programs": 4}) == 7
    default = inspect.signature(dspy.BootstrapFewShotWithRandomSearch).parameters["num_candidate_programs"].default
    assert candidates_known(search, {}) == default + 3
    assert candidates_known(search, {"restrict": [0]}) == candidates_known("MIPROv2", {"num_trials": 4}) == 0


def test_a_study_from_start_to_best(begin, session, stub):
    bonus = {"yes": 1.0}  # a closure crosses to the child

    def metric(example, prediction, trace=None):
        return bonus.get(prediction.answer, 0.0)

    study = begin(metric=metric)
    result = study.wait(60)
    assert (result.status, result.error) == ("done", None)
    assert result.best_score == 1.0
    assert result.start_score == pytest.approx(1 / 6, abs=1e-3)
    assert result.lm_calls == len(stub.bodies) > 0
    assert result.prompt_tokens == 3 * result.lm_calls
    # The zero-shot candidate is the start; the best loads into the native program.
    table = study.trials
    assert table["kind"][0] == "start"
    assert table["label"][0] == "zero-shot"
    assert table["best"].is_monotonic_increasing
    program = Predict(Signature("question -> answer")).load_state(study.best)
    assert len(program.demos) > 0
    # The kernel's views saw it, and the store holds each event once.
    until(lambda: any(isinstance(event, RunEnded) for event in session.bus.recent), 5)
    kinds = {type(event) for event in session.bus.recent}
    assert {RunStarted, TrialStarted, TrialEnded, Progress, LMCalled, RunEnded} <= kinds
    session.store.flush()
    stored = [event for _, event in study.events()]
    assert len(stored) == len(set(map(repr, stored)))
    assert sum(isinstance(event, RunStarted) for event in stored) == 1
    trials = {event.trial for event in stored if isinstance(event, LMCalled)}
    assert {0, 1} <= trials
    ended = next(event for event in stored if isinstance(event, TrialEnded))
    assert ended.info["state"]["demos"] == []
    # No code and no key lies about.
    assert not (study.folder / TASK).exists()
    texts = [path.read_bytes() for path in [*study.folder.iterdir(), session.store.path] if path.is_file()]
    assert all(b"sk-secret" not in text for text in texts)


def test_a_second_run_is_served_from_the_cache(begin, stub):
    first = begin().wait(60)
    sent = len(stub.bodies)
    second = begin().wait(60)
    assert len(stub.bodies) == sent
    assert (second.status, second.best_score, second.lm_calls) == ("done", first.best_score, 0)
    assert second.cache_hits > 0


def test_optimizers_that_do_not_score_are_scored_by_us(begin):
    study = begin("LabeledFewShot", options={"k": 2})
    result = study.wait(60)
    assert list(study.trials["kind"]) == ["start", "result"]
    assert (result.start_score, result.best_score) == (pytest.approx(1 / 6, abs=1e-3), 1.0)


def test_stop_keeps_the_best_so_far(begin, stub):
    stub.delay[0] = 0.05
    study = begin(
        options={"num_candidate_programs": 30, "max_labeled_demos": 2}, metric=lambda e, p, t=None: time.sleep(0.01) or 0.5
    )
    until(lambda: len(study.trials) >= 1)
    asked = time.monotonic()
    study.stop()
    result = study.wait(10)
    assert time.monotonic() - asked < 2.5
    assert (result.status, result.best_score, result.error) == ("stopped", 0.5, None)
    assert study.best["signature"]["instructions"]
    sent = len(stub.bodies)
    time.sleep(0.2)
    assert len(stub.bodies) == sent
    study.stop()  # twice is no error


def test_stop_is_heard_in_a_metric_that_hangs(begin, stub):
    study = begin(metric=lambda e, p, t=None: time.sleep(600))
    until(lambda: len(stub.bodies) >= 2)
    asked = time.monotonic()
    study.stop()
    assert study.wait(10).status == "stopped"
    assert time.monotonic() - asked < 3


def test_pause_holds_every_request_until_resume(begin, stub):
    stub.delay[0] = 0.05
    study = begin(options={"num_candidate_programs": 3, "max_labeled_demos": 2})
    until(lambda: len(stub.bodies) >= 2)
    study.pause()
    time.sleep(0.2)  # what was in flight ends
    assert study.status == "paused"
    held = len(stub.bodies)
    time.sleep(0.2)
    assert len(stub.bodies) == held
    stub.delay[0] = 0.0
    study.resume()
    assert study.wait(60).status == "done"


def test_a_paused_study_can_be_stopped(begin, stub):
    stub.delay[0] = 0.05
    study = begin(options={"num_candidate_programs": 3, "max_labeled_demos": 2})
    until(lambda: len(stub.bodies) >= 2)
    study.pause()
    study.stop()
    assert study.wait(10).status == "stopped"


def test_a_metric_that_always_raises_is_named(begin):
    def broken(example, prediction, trace=None):
        return example.anwser == prediction.answer

    study = begin(metric=broken)
    result = study.wait(60)
    assert result.status == "failed"
    assert "the metric 'broken' raised on example" in result.error
    assert "anwser" in result.error


def test_a_metric_that_raises_now_and_then_is_counted_and_shown(begin):
    def shaky(example, prediction, trace=None):
        if example.question.endswith(" 3"):
            raise ValueError("three")
        return 1.0

    study = begin(metric=shaky, options={"num_candidate_programs": 0, "max_labeled_demos": 2})
    result = study.wait(60)
    assert result.status == "done"
    assert study.trials["errors"][0] == 1
    rows = [event for _, event in study.events() if isinstance(event, RowScored) and event.error and event.trial == 0]
    assert [row.index for row in rows] == [3]  # demos are sought beside it, in examples that may fail as well
    assert "ValueError: three" in rows[0].error


def test_a_server_that_is_down_is_the_stated_cause(begin, stub, session):
    stub.server.shutdown()
    stub.server.server_close()
    result = begin().wait(90)
    assert result.status == "failed"
    assert "127.0.0.1" in result.error


def test_mistakes_are_refused_before_a_process_starts(begin, session):
    with pytest.raises(OptimizerError, match="CORPO") as caught:
        begin("CORPO")
    assert "did you mean 'COPRO'" in caught.value.hint
    with pytest.raises(OptimizerError, match="num_candidate_program"):
        begin(options={"num_candidate_program": 1})
    with pytest.raises(OptimizerError, match="trainset is empty"):
        begin(rows=[], valset=None)
    with pytest.raises(StudyError, match="cannot cross") as caught:
        begin(program=Predict(Signature("question -> answer")), metric=threading.Lock().acquire)
    assert studies(session.store).empty


def test_rows_without_the_input_are_named(begin):
    result = begin(rows=[{"quest": "q", "answer": "yes"}] * 3).wait(60)
    assert result.status == "failed"
    assert "row 0 lacks 'question'" in result.error


def test_a_child_that_is_killed_is_told_from_one_that_failed(begin, stub):
    stub.delay[0] = 0.2
    study = begin()
    until(lambda: stub.bodies)
    os.kill(study._child.pid, signal.SIGKILL)
    result = study.wait(10)
    assert result.status == "failed"
    assert "SIGKILL" in result.error


def test_an_unknown_study_is_refused(session):
    with pytest.raises(StudyError, match="no study 'nope'"):
        load_study(session.store, "nope")


KERNEL = """
import sys, time
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.modules import Predict
from dspex_nb.runs.studies import start_study
from dspex_nb.ambient import Session
from dspex_nb.signatures import Signature
from dspex_nb.store import Store

class Helper:  # of __main__, as everything in a notebook is
    def score(self, example, prediction):
        time.sleep(0.02)
        return 0.25

helper = Helper()
def metric(example, prediction, trace=None):
    return helper.score(example, prediction)

url, folder = sys.argv[1:]
session = Session(
    lm=connect("openai/stub", api_base=url, api_key="x", temperature=0), cache=Cache(directory=folder + "/cache"),
    store=Store(folder + "/runs.db"), adapter="compact")
rows = [{"question": f"question {i}", "answer": "yes"} for i in range(12)]
study = start_study(Predict(Signature("question -> answer")), optimizer="BootstrapFewShotWithRandomSearch", metric=metric,
    trainset=rows, session=session, options={"num_candidate_programs": 200, "max_labeled_demos": 2}, n_jobs=2)
while len(study.trials) < 2:
    time.sleep(0.05)
print(study.id, study._child.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_kernel_takes_its_study_along_and_leaves_its_trials(stub, tmp_path, monkeypatch):
    stub.delay[0] = 0.02
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    (tmp_path / "kernel.py").write_text(textwrap.dedent(KERNEL))
    kernel = subprocess.Popen(
        [sys.executable, str(tmp_path / "kernel.py"), stub.url, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    run_id, pid = kernel.stdout.readline().split()
    child = Owner.of(int(pid))
    assert is_alive(child)
    kernel.kill()
    kernel.wait()
    kernel.stdout.close()
    until(lambda: not is_alive(child), 5)
    store = Store(tmp_path / "runs.db")
    study = load_study(store, run_id)
    assert study.status == "interrupted"
    assert len(study.trials) >= 2
    assert study.result.best_score == 0.25
    assert json.loads(json.dumps(study.best))["signature"]
    assert list(studies(store)["status"]) == ["interrupted"]
    with pytest.raises(StudyError, match="interrupted"):
        study.resume()  # tests/unit/runs/test_study_resuming.py goes on with one
    store.close()
