"""`Study.adopt`, and what its dashboard says of it."""

from types import SimpleNamespace

import pytest

import dspex_nb as dx
from dspex_nb.api.sessions import session
from dspex_nb.api.studies import Study
from dspex_nb.errors import StudyError
from dspex_nb.events import RunEnded, RunStarted, TrialEnded
from dspex_nb.views import study_html

ADOPT = 'data-dspex-action="adopt"'


def ended(best):
    events = [
        RunStarted(run_id="s", name="search of Triage", of="study", total=4),
        TrialEnded(run_id="s", trial=0, score=0.5, best=0.5),
        RunEnded(run_id="s", status="done", elapsed_s=1.0),
    ]
    return SimpleNamespace(id="s", name="search of Triage", status="done", best=best, events=lambda: list(enumerate(events)))


def test_adopting_loads_the_best_state_and_says_so(fresh):
    signature = dx.Signature("message -> desk").with_name("Triage")
    program, best = dx.Predict(signature), dx.Predict(signature)
    best.demos = [{"message": "m", "desk": "tech"}]
    study = Study(lambda bus: ended(best.dump_state()), session(), program)
    assert ADOPT in study_html(study._state)
    assert "1 / 4" in study_html(study._state)
    assert study.adopt() is program
    assert program.demos == best.demos
    assert "adopted: Triage now uses the best program" in study_html(study._state)
    assert ADOPT not in study_html(study._state)


def test_a_study_without_its_program_offers_no_button(fresh):
    study = Study(lambda bus: ended({"demos": []}), session())
    assert ADOPT not in study_html(study._state)
    with pytest.raises(StudyError):
        study.adopt()
