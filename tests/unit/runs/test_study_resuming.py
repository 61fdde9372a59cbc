"""A study and its kernel killed in the middle: nothing received is asked for again, and it comes to the same end."""

import collections
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import dspex_nb as dx
from dspex_nb.bridge import StudyPlan, StudyRun, recipe_of
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.errors import StudyError
from dspex_nb.metrics import resolve_metric
from dspex_nb.scopes import Scope
from dspex_nb.store import Owner, is_alive

N_JOBS = 4
ROWS = [{"question": f"question {number}", "answer": "yes"} for number in range(16)]
SEARCH = ("BootstrapFewShotWithRandomSearch", {"num_candidate_programs": 4, "max_labeled_demos": 2, "max_bootstrapped_demos": 2})
MIPRO = ("MIPROv2", {"num_candidates": 3, "num_trials": 6, "minibatch_size": 6, "minibatch_full_eval_steps": 3})
KERNEL = """
import sys, time
import dspex_nb as dx
url, optimizer, options, rows = sys.argv[1], sys.argv[2], eval(sys.argv[3]), eval(sys.argv[4])
dx.configure(lm=dx.LM("openai/stub", api_base=url, api_key="x", temperature=0), adapter="chat")
program = dx.Predict(dx.Signature("question -> answer", "Answer the question."))
study = dx.optimize(program, optimizer, metric="exact_match:answer", trainset=rows, seed=5, n_jobs=4, **options)
while study.record._child.alive and not study.result.trials:
    time.sleep(0.01)
print(study.id, study.record._child.pid, flush=True)
time.sleep(600)
"""


def answering():
    path = Path(__file__).parents[1] / "bridge" / "answering.py"
    spec = importlib.util.spec_from_file_location("answering", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.answer


def until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def program():
    return dx.Predict(dx.Signature("question -> answer", "Answer the question."))


def undisturbed(url, optimizer, options, folder):
    """Run the same study in this process, from an empty cache; returns its best state."""
    client = connect("openai/stub", api_base=url, api_key="x", temperature=0)
    plan = StudyPlan(
        program=recipe_of(program()), optimizer=optimizer, metric=resolve_metric("exact_match:answer"), trainset=ROWS,
        inputs=("question",), options=options, adapter="chat", seed=5, n_jobs=N_JOBS,
    )  # fmt: skip
    outcome = StudyRun(plan, client=client, scope=Scope("alone"), cache=Cache(directory=folder), folder=folder).run()
    assert outcome.status == "done", outcome.error
    return outcome.best


@pytest.mark.parametrize(
    ("optimizer", "options", "after"),
    [(*SEARCH, 40), pytest.param(*MIPRO, 40, marks=pytest.mark.services)],
    ids=["random search", "MIPROv2"],
)
def test_killed_with_its_kernel_and_resumed(optimizer, options, after, fresh, model_server, tmp_path):
    answer = answering()
    server = model_server(lambda body: (time.sleep(0.02), answer(body))[1])
    (tmp_path / "kernel.py").write_text(textwrap.dedent(KERNEL))
    kernel = subprocess.Popen(
        [sys.executable, str(tmp_path / "kernel.py"), server.url, optimizer, repr(options), repr(ROWS)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "DSPEX_HOME": str(fresh)},
    )  # fmt: skip
    study_id, pid = kernel.stdout.readline().split()
    child = Owner.of(int(pid))
    until(lambda: len(server.bodies) >= after)
    os.kill(int(pid), signal.SIGKILL)
    kernel.kill()
    kernel.wait()
    kernel.stdout.close()
    until(lambda: not is_alive(child), 10)
    time.sleep(0.1)  # what the server had in hand
    before = keys(server.bodies)

    dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="x", temperature=0), adapter="chat")
    with pytest.raises(StudyError, match="bring program= again"):
        dx.load_study(study_id).resume()
    study = dx.load_study(study_id, program())
    assert study.status == "interrupted"
    seen = study.trials
    assert len(seen) >= 1
    assert study.resume() is study
    result = study.wait(120)
    assert (result.status, result.error) == ("done", None)
    both = keys(server.bodies)

    again = collections.Counter(both)
    best = undisturbed(server.url, optimizer, options, tmp_path / "alone")
    alone = collections.Counter(keys(server.bodies)[len(both) :])
    repeated = again - alone
    assert not alone - again
    assert repeated.total() <= N_JOBS
    assert set(repeated) <= set(before[-2 * N_JOBS :])
    assert json.loads(json.dumps(best.state)) == study.best_state
    assert best.score == study.result.best_score
    # The trials of before are told alike; each call is paid or a hit. (Records of the last moment before the kill are not there.)
    now = study.trials
    assert list(now["score"][: len(seen)]) == list(seen["score"])
    spend = study.spend
    assert spend.calls + spend.cache_hits >= alone.total() >= len(both) - N_JOBS
    assert len(both) - spend.calls <= 4 * N_JOBS
    tuned = study.best
    assert study.adopt() is study.program
    assert tuned.dump_state() == study.program.dump_state()
    with pytest.raises(StudyError, match="is done"):
        study.resume()


def keys(bodies):
    return [json.dumps(body, sort_keys=True) for body in bodies]


def test_another_program_is_not_resumed(fresh, model_server):
    server = model_server(lambda body: (time.sleep(0.05), answering()(body))[1])
    dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="x", temperature=0), adapter="chat")
    study = dx.optimize(
        program(), SEARCH[0], metric="exact_match:answer", trainset=ROWS, n_jobs=2, budget="10 calls", **SEARCH[1]
    )
    result = study.wait(60)
    assert (result.status, result.reason, result.error) == ("stopped", "the budget of 10 calls is used up", None)
    assert len(server.bodies) == result.lm_calls == study.spend.calls == 10
    assert study.best_state["signature"]["instructions"] == "Answer the question."
    other = dx.Predict(dx.Signature("question -> answer", "Answer something else."))
    study.resume(program=other, budget="100 calls")
    result = study.wait(60)
    assert result.status == "failed"
    assert "not the program that the study tunes" in result.error
    assert len(server.bodies) == 10
