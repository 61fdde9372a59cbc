"""Each of DSPy's optimizers runs as a small real study against a real HTTP server, and is better for it."""

import json
import re

import dspy
import pytest

from dspex_nb.bridge import Avatar, StandInTrainer, StudyPlan, StudyRun
from dspex_nb.bridge.catalog import FACTS
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.events import Bus, LMCalled, RowScored, TrialEnded, TrialStarted
from dspex_nb.modules import Predict
from dspex_nb.runs.study_estimates import estimate_study
from dspex_nb.scopes import Scope
from dspex_nb.signatures import Signature

from .answering import answer

ROWS = [{"question": f"question {number}", "answer": "yes"} for number in range(12)]


def correct(example, prediction, trace=None, pred_name=None, pred_trace=None):
    right = example.answer == prediction.answer
    return dspy.Prediction(score=float(right), feedback=f"of {pred_name}: say yes") if pred_name else float(right)


def program():
    return Predict(Signature("question -> answer", "Answer the question."))


def look_up(query):
    """Look something up."""
    return f"nothing on {query}"


CASES = {
    "LabeledFewShot": {"options": {"k": 2}},
    "BootstrapFewShot": {"options": {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}},
    "BootstrapFewShotWithRandomSearch": {"options": {"num_candidate_programs": 2, "max_labeled_demos": 2}},
    "BootstrapFewShotWithOptuna": {"options": {"num_candidate_programs": 3, "max_demos": 2, "max_labeled_demos": 2}},
    "KNNFewShot": {"options": {"k": 2}},
    "COPRO": {"options": {"breadth": 3, "depth": 2}},
    "MIPROv2": {"options": {"num_candidates": 3, "num_trials": 4, "minibatch_size": 4, "minibatch_full_eval_steps": 2}},
    "MIPRO": {"options": {"num_candidates": 2, "num_trials": 2, "minibatch": False}},
    "SIMBA": {"options": {"bsize": 4, "num_candidates": 2, "max_steps": 2}},
    "GEPA": {"options": {"max_metric_calls": 40}},
    "InferRules": {"options": {"num_candidates": 2, "num_rules": 2}},
    "BetterTogether": {
        "options": {"p": "LabeledFewShot", "q": {"optimizer": "COPRO", "breadth": 2, "depth": 1}, "strategy": "p -> q", "valset_ratio": 0.5}
    },
    "Ensemble": {"program": lambda: [program(), Predict(Signature("question -> answer", "Say yes."))], "trainset": [], "valset": ROWS},
    "BootstrapFinetune": {},
    "AvatarOptimizer": {"program": lambda: Avatar("question -> answer", [look_up]), "options": {"max_iters": 2}},
}  # fmt: skip


def estimated(name, case):
    rows = case.get("trainset", ROWS)
    plan = StudyPlan(
        case.get("program", program)(),
        name,
        None,
        rows,
        valset=case.get("valset"),
        inputs=("question",),
        options=case.get("options", {}),
    )
    return estimate_study(plan, None).calls


@pytest.fixture
def study(model_server, tmp_path):
    server = model_server(answer)

    def start(optimizer, answers=answer, **case):
        server.answer = answers
        client = connect("openai/stub", api_base=server.url, api_key="x", temperature=0, num_retries=0)
        plan = StudyPlan(
            program=case.get("program", program)(), optimizer=optimizer, metric=case.get("metric", correct),
            trainset=case.get("trainset", ROWS), valset=case.get("valset"), options=case.get("options", {}), adapter="chat", seed=3,
            n_jobs=case.get("n_jobs", 4), accelerate=case.get("accelerate", False),
        )  # fmt: skip
        seen = []
        bus = Bus(keep=0)
        bus.subscribe(seen.append)
        run = StudyRun(plan, client=client, scope=Scope("s", bus), cache=Cache(directory=tmp_path / "cache"), folder=tmp_path)
        outcome = run.run()
        return outcome, seen

    start.server = server
    return start


def test_every_optimizer_of_dspy_is_run_here():
    assert set(CASES) == {name for name, facts in FACTS.items() if facts.study}


@pytest.mark.parametrize("name", CASES)
def test_it_runs_as_a_study_and_tells_what_it_does(name, study, tmp_path):
    case = dict(CASES[name])
    answers = answer
    if name == "BootstrapFinetune":
        trainer = StandInTrainer(tmp_path / "models")
        case["options"] = {"provider": trainer, "multitask": True}

        def answers(body):  # the model that was "trained" says what its table says of a prompt, and yes where it has none
            return answer(body) if "-tuned-" not in body["model"] else "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"

    outcome, seen = study(name, answers, **case)
    assert (outcome.status, outcome.error) == ("done", None)
    assert outcome.best.score == 1.0
    started, ended = ([event for event in seen if isinstance(event, kind)] for kind in (TrialStarted, TrialEnded))
    assert [event.trial for event in started] == list(range(outcome.trials)) == sorted(event.trial for event in ended)
    if FACTS[name].program == "program":
        assert outcome.start_score is not None
        assert outcome.start_score < 1.0
        assert any(event.info["kind"] == "start" for event in ended)
    # A candidate knows what it was made from, and what the optimizer chose.
    told = [event.info for event in started]
    if told[0]["kind"] == "start":
        assert all(0 <= info["parent"] < number for number, info in enumerate(told) if number)
    if name in ("MIPROv2", "MIPRO"):
        assert {"predict: instruction", "predict: demos"} == set(told[1]["params"])
    if name == "BootstrapFewShotWithOptuna":
        assert set(told[0]["params"]) == {"predict: demo"}
    if name == "GEPA":
        assert any(re.search(r"of \w+: say yes", json.dumps(body)) for body in study.server.bodies)
    assert all(set(info["predictors"]) and info["label"] for info in told)
    # Every example of every trial is told once, with its number; every call says which trial it served.
    rows = [(event.trial, event.index) for event in seen if isinstance(event, RowScored) and event.trial is not None]
    assert len(rows) == len(set(rows)) == sum(event.examples for event in ended)
    assert all(index >= 0 for _, index in rows)
    calls = [event for event in seen if isinstance(event, LMCalled)]
    assert {event.trial for event in calls if event.trial is not None} <= {event.trial for event in ended}
    assert all(event.index is not None for event in calls if event.trial is not None)
    # What it was to take at most is not passed, and was no wild guess.
    assert len(calls) <= estimated(name, case) <= 2.5 * len(calls)
    for event in ended:
        own = [row.scores["correct"] for row in seen if isinstance(row, RowScored) and row.trial == event.trial]
        assert sum(own) / len(own) == pytest.approx(event.score, abs=1e-4)
