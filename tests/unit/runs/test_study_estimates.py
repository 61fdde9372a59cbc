"""What a study says beforehand of its calls, against what it then asks."""

import pytest

from dspex_nb.bridge import StudyPlan
from dspex_nb.clients import connect
from dspex_nb.runs.study_estimates import estimate_study

ROWS = [{"question": "x" * 40, "answer": "y" * 8}] * 100


def estimate(optimizer, client=None, steps=1, valset=None, **options):
    plan = StudyPlan(None, optimizer, None, ROWS, valset=valset, inputs=("question",), options=options)
    return estimate_study(plan, client, steps)


@pytest.mark.parametrize(
    ("optimizer", "options", "least", "most"),
    [
        ("LabeledFewShot", {"k": 4}, 200, 200),
        ("BootstrapFewShotWithRandomSearch", {"num_candidate_programs": 12, "max_bootstrapped_demos": 4}, 1500, 1700),
        ("MIPROv2", {"num_candidates": 5, "num_trials": 12, "minibatch_size": 40, "minibatch_full_eval_steps": 4}, 800, 1000),
        ("GEPA", {"max_metric_calls": 300}, 400, 500),
        ("COPRO", {"breadth": 3, "depth": 2}, 800, 810),
        ("SIMBA", {"bsize": 10, "num_candidates": 2, "max_steps": 2}, 550, 650),
        (
            "BetterTogether",
            {"p": "LabeledFewShot", "q": {"optimizer": "COPRO", "breadth": 2, "depth": 1}, "strategy": "p -> q"},
            211,  # such a study asked as many of a stub
            300,
        ),
        ("Ensemble", {}, 200, 200),
    ],
)
def test_calls_are_in_the_right_size(optimizer, options, least, most):
    assert least <= estimate(optimizer, **options).calls <= most


def test_a_program_of_several_steps_takes_as_many_calls():
    assert estimate("LabeledFewShot", steps=3).calls == 3 * estimate("LabeledFewShot").calls


def test_the_price_is_told_where_it_is_known():
    dear = connect("openai/m", api_base="http://127.0.0.1:9/v1", api_key="x", price={"input": 1.0, "output": 2.0})
    found = estimate("LabeledFewShot", dear)
    assert found.cost == pytest.approx((found.prompt_tokens + 2 * found.completion_tokens) / 1e6)
    assert f"up to about {found.calls} LM calls" in str(found)
    assert "price unknown" in str(estimate("LabeledFewShot", connect("openai/m", api_base="http://127.0.0.1:9/v1", api_key="x")))
