"""The table of optimizers, and how one is made."""

import subprocess
import sys

import dspy
import pytest

from dspex_nb.bridge import find_optimizer, make_optimizer, optimizers, option_names, program_for
from dspex_nb.bridge.catalog import FACTS
from dspex_nb.bridge.optimizing import Setting
from dspex_nb.errors import MissingDependencyError, OptimizerError
from dspex_nb.modules import ChainOfThought, Predict
from dspex_nb.signatures import Signature


def metric(example, prediction, trace=None):
    return 1.0


def test_the_table_names_every_optimizer_dspy_has():
    table = optimizers()
    assert set(table.index) == set(FACTS)
    assert table.loc["LabeledFewShot", "metric"] == "no"
    assert table.loc["Ensemble", "takes"] == "programs"
    public = {name for name, value in vars(dspy.teleprompt).items() if isinstance(value, type) and hasattr(value, "compile")}
    assert public - {"Teleprompter", "BootstrapRS", "Reanchor"} <= set(FACTS)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("dspex_nb.bridge.catalog._is_installed", lambda module: module != "optuna")
    with pytest.raises(MissingDependencyError, match="MIPROv2 needs the package 'optuna'") as caught:
        find_optimizer("MIPROv2")
    assert caught.value.hint == "pip install 'dspex_nb[optimizers]'"


def test_misspelt_names_and_options_are_met_with_the_right_one():
    with pytest.raises(OptimizerError, match="MIPROv3") as caught:
        make_optimizer("MIPROv3", metric)
    assert "did you mean 'MIPROv2'" in caught.value.hint
    with pytest.raises(OptimizerError, match="max_bootstraped_demos") as caught:
        make_optimizer("BootstrapFewShot", metric, {"max_bootstraped_demos": 2})
    assert "did you mean 'max_bootstrapped_demos'" in caught.value.hint
    with pytest.raises(OptimizerError, match="needs a metric"):
        make_optimizer("COPRO")
    with pytest.raises(OptimizerError, match="cannot run as a study"):
        make_optimizer("GRPO", metric)
    with pytest.raises(OptimizerError, match="max_bootstrapped_demo") as caught:
        make_optimizer("KNNFewShot", metric, {"max_bootstrapped_demo": 2})
    assert "did you mean 'max_bootstrapped_demos'" in caught.value.hint
    with pytest.raises(OptimizerError, match="BetterTogether takes no option 'stratgy'") as caught:
        make_optimizer("BetterTogether", metric, {"stratgy": "p"})
    assert "did you mean 'strategy'" in caught.value.hint


def test_options_go_where_they_belong():
    assert {"num_candidate_programs", "labeled_sample"} < set(option_names("BootstrapFewShotWithRandomSearch"))
    assert not {"metric", "student", "kwargs"} & set(option_names("COPRO"))
    made = make_optimizer(
        "BootstrapFewShotWithRandomSearch",
        metric,
        {"num_candidate_programs": 2, "labeled_sample": False},
        setting=Setting(n_jobs=3),
    )
    assert made.teleprompter.num_candidate_sets == 2
    assert made.teleprompter.num_threads == 3
    assert dict(made.compile_options) == {"labeled_sample": False}


@pytest.mark.parametrize(("ours", "theirs"), [(Predict, dspy.Predict), (ChainOfThought, dspy.ChainOfThought)])
def test_native_programs_and_their_twins_exchange_state(ours, theirs):
    native = ours(Signature("question -> answer", "Answer briefly."), temperature=0.3)
    native.demos = [{"question": "q", "answer": "a"}]
    twin = program_for(native)
    assert isinstance(twin, theirs)
    predictor = twin.predictors()[0]
    assert predictor.config == {"temperature": 0.3}
    assert [dict(demo) for demo in predictor.demos] == native.demos
    predictor.demos = [dspy.Example(question="x", answer="y", augmented=True)]
    predictor.signature = predictor.signature.with_instructions("Better.")
    native.load_state(twin.dump_state())
    assert native.signature.instructions == "Better."
    assert native.demos[0]["answer"] == "y"


def test_what_is_no_program_is_refused():
    with pytest.raises(OptimizerError, match="str cannot be optimized"):
        program_for("question -> answer")


def test_importing_the_room_loads_no_dspy():
    code = "import sys, dspex_nb.bridge as b; b.StudyPlan; b.find_optimizer('COPRO'); import dspex_nb.runs.studies; import dspex_nb.store;"
    code += "print([m for m in ('dspy', 'litellm', 'pandas', 'cloudpickle', 'joblib', 'aiohttp') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
