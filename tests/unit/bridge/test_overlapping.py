"""Chains of LM calls that need nothing of each other run at once, and nothing else changes for it."""

from __future__ import annotations

import json
import threading
from collections import Counter

import dspy
import pytest

from dspex_nb.bridge import StudyPlan, StudyRun
from dspex_nb.bridge.candidates import canonical
from dspex_nb.bridge.lm import Stopped
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.events import Bus
from dspex_nb.modules import Predict
from dspex_nb.scopes import Scope
from dspex_nb.signatures import Signature

from .answering import answer

ROWS = [{"question": f"question {number}", "answer": "yes"} for number in range(12)]
SEARCH = {"num_candidate_programs": 2, "max_labeled_demos": 2}
MIPRO = {"num_candidates": 5, "num_trials": 4, "minibatch_size": 4, "minibatch_full_eval_steps": 2}


def correct(example, prediction, trace=None):
    return float(example.answer == prediction.answer)


@pytest.fixture
def study(model_server, tmp_path):
    def run(optimizer, options, metric=correct, n_jobs=4):
        server = model_server(answer)
        client = connect("openai/stub", api_base=server.url, api_key="x", temperature=0, num_retries=0)
        plan = StudyPlan(
            program=Predict(Signature("question -> answer", "Answer the question.")), optimizer=optimizer, metric=metric,
            trainset=ROWS, options=options, adapter="chat", seed=3, n_jobs=n_jobs,
        )  # fmt: skip
        cache = Cache(directory=tmp_path / str(n_jobs))
        outcome = StudyRun(plan, client=client, scope=Scope("s", Bus(keep=0)), cache=cache, folder=tmp_path).run()
        return outcome, Counter(json.dumps(body, sort_keys=True) for body in server.bodies)

    return run


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("BootstrapFewShotWithRandomSearch", SEARCH),
        ("MIPROv2", MIPRO),
        ("MIPROv2", {**MIPRO, "data_aware_proposer": False}),
        ("MIPROv2", {**MIPRO, "view_data_batch_size": 3, "fewshot_aware_proposer": False}),
        ("BetterTogether", {"p": "BootstrapFewShotWithRandomSearch", "q": {"optimizer": "COPRO", "breadth": 2, "depth": 1}, "strategy": "p -> q"}),
    ],
)  # fmt: skip
def test_the_same_is_asked_and_the_same_comes_of_it(optimizer, options, study):
    in_turn, asked_in_turn = study(optimizer, dict(options), n_jobs=1)
    at_once, asked_at_once = study(optimizer, dict(options), n_jobs=4)
    assert (in_turn.status, at_once.status) == ("done", "done")
    assert asked_at_once == asked_in_turn
    assert canonical(at_once.best.state) == canonical(in_turn.best.state)
    assert (at_once.best.score, at_once.best.trial, at_once.trials) == (in_turn.best.score, in_turn.best.trial, in_turn.trials)


@pytest.mark.parametrize(
    ("optimizer", "options", "n_jobs"), [("BootstrapFewShotWithRandomSearch", SEARCH, 48), ("MIPROv2", MIPRO, 4)]
)
def test_sets_of_demos_are_made_at_once(optimizer, options, n_jobs, study):
    meet, met = threading.Barrier(3, timeout=20), threading.local()  # three sets: in the order of the data, and two shuffled

    def metric(example, prediction, trace=None):
        if trace is not None and not hasattr(met, "here"):
            met.here = True
            meet.wait()
        return correct(example, prediction)

    outcome, _ = study(optimizer, dict(options), metric, n_jobs)
    assert (outcome.status, outcome.error) == ("done", None)
    assert not meet.broken


def test_a_random_search_scores_a_set_while_it_makes_the_next(study):
    scored, waited = threading.Event(), []

    def metric(example, prediction, trace=None):
        if trace is not None and scoring.count("demos") and not waited:  # the second set, with the first on its way to be scored
            waited.append(scored.wait(20))
        if trace is None and len(scoring) > 2 * len(ROWS):  # after the start, and the one with labelled demos
            scored.set()
        scoring.append("score" if trace is None else "demos")
        return correct(example, prediction)

    scoring = []
    outcome, _ = study("BootstrapFewShotWithRandomSearch", {**SEARCH, "max_bootstrapped_demos": 1}, metric)
    assert outcome.status == "done"
    assert waited == [True]


def test_nothing_is_asked_for_sets_that_an_early_end_may_spare(study):
    made = []

    def metric(example, prediction, trace=None):
        made.append(trace is not None)
        return correct(example, prediction)

    outcome, _ = study("BootstrapFewShotWithRandomSearch", {**SEARCH, "stop_at_score": 0.0}, metric)
    assert outcome.status == "done"
    assert not any(made)


def test_a_stop_among_the_chains_ends_the_study(study):
    def metric(example, prediction, trace=None):
        if trace is not None:
            raise Stopped("the study was stopped")
        return correct(example, prediction)

    outcome, _ = study("BootstrapFewShotWithRandomSearch", dict(SEARCH), metric)
    assert outcome.status == "stopped"
    assert outcome.best.score is not None  # of the start, and of the one with labelled demos


def test_dspy_is_as_it_was_afterwards(study):
    from dspy.propose import grounded_proposer
    from dspy.teleprompt import mipro_optimizer_v2, random_search
    from dspy.utils.parallelizer import ParallelExecutor

    def now():
        return (
            random_search.BootstrapFewShot, random_search.Evaluate, dspy.BootstrapFewShotWithRandomSearch.compile,
            dspy.MIPROv2.compile, mipro_optimizer_v2.create_n_fewshot_demo_sets, mipro_optimizer_v2.GroundedProposer,
            mipro_optimizer_v2._import_optuna, grounded_proposer.create_dataset_summary, ParallelExecutor._execute_parallel,
            ParallelExecutor._report_progress,
        )  # fmt: skip

    before = now()
    study("MIPROv2", dict(MIPRO))
    assert now() == before
