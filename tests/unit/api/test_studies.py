"""`dx.optimize` up to the child process; what runs in it is tested in tests/unit/runs/test_studies.py."""

import pytest

import dspex_nb as dx
from dspex_nb.errors import OptimizerError, StudyError
from dspex_nb.testing import ScriptedLM

ROWS = [{"message": f"m{i}", "desk": "tech"} for i in range(4)]


@pytest.fixture
def predict(fresh):
    return dx.Predict("message -> desk")


def test_optimizers_are_a_table():
    table = dx.optimizers()
    assert {"BootstrapFewShot", "BootstrapFewShotWithRandomSearch", "MIPROv2", "LabeledFewShot"} <= set(table.index)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"optimizer": "BootstrapFewShot", "metric": "f1"}, "trainset"),
        ({"optimizer": "BootstrapFewShot", "metric": "f1", "trainset": ROWS, "budget": "much"}, "budget"),
        ({"optimizer": "Bootstrap", "metric": "f1", "trainset": ROWS}, "did you mean"),
        ({"optimizer": "BootstrapFewShot", "metric": "f1", "trainset": ROWS, "max_round": 1}, "max_rounds"),
        ({"optimizer": "BootstrapFewShotWithRandomSearch", "trainset": ROWS}, "metric"),
        ({"optimizer": "BootstrapFewShot", "metric": "edit_distance:desk", "trainset": ROWS}, "less is better"),
        ({"optimizer": "BootstrapFewShot", "metric": "f1", "trainset": ROWS, "budget": {"call": 3}}, "did you mean 'calls'"),
        ({"optimizer": "BootstrapFewShot", "metric": "f1", "trainset": ROWS, "budget": "0 calls"}, "no limit above 0"),
        ({"optimizer": "BootstrapFewShot", "metric": "f1", "trainset": ROWS, "budget": "$1"}, "price of 'openai/m' is unknown"),
        ({"optimizer": "Ensemble", "metric": "f1", "valset": ROWS}, "takes a list of programs"),
    ],
)
def test_mistakes_start_nothing(predict, options, told):
    dx.configure(lm="openai/m")
    with pytest.raises(OptimizerError) as raised:
        dx.optimize(predict, **options)
    assert told in str(raised.value)
    assert raised.value.hint
    assert len(dx.studies()) == 0


def test_no_studies_yet(fresh):
    assert list(dx.studies()) == list(dx.studies().columns)
    assert len(dx.studies()) == 0
    with pytest.raises(StudyError):
        dx.load_study("nope")


def test_a_study_asks_the_programs_own_lm(fresh, monkeypatch):
    class BegunError(Exception):
        pass

    def begin(*_, session, **__):
        raise BegunError(session.lm)

    monkeypatch.setattr("dspex_nb.runs.studies.start_study", begin)
    dx.configure(lm=ScriptedLM([]))
    own = ScriptedLM([], model="own")
    for program, asked in ((dx.Predict("text -> label", lm=own), own), (dx.Predict("text -> label"), dx.session().lm)):
        with pytest.raises(BegunError) as caught:
            dx.optimize(program, "LabeledFewShot", trainset=[{"text": "a", "label": "b"}])
        assert caught.value.args[0] is asked
