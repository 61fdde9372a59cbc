"""`Study.adopt`, and what its dashboard says of it."""

import json

import pytest

import dspex_nb as dx
from dspex_nb.api.sessions import session
from dspex_nb.api.studies import Study
from dspex_nb.api.study_views import Dashboard
from dspex_nb.errors import StudyError
from dspex_nb.events import RunEnded, RunStarted, TrialEnded
from dspex_nb.runs import studies as running

ADOPT = 'data-dspex-action="adopt"'


def ended(now, best):
    """Return a study that another kernel ended, as the run store and its folder know it."""
    folder = now.store.path.parent / "study"
    folder.mkdir()
    (folder / "best.json").write_text(json.dumps({"state": best, "score": 0.5, "trial": 0}))
    options = {"num_candidate_programs": 1}
    info = {"folder": str(folder), "optimizer": "BootstrapFewShotWithRandomSearch", "options": options}
    now.store.append(
        [
            RunStarted(run_id="s", name="search of Triage", of="study", total=4, info=info),
            TrialEnded(run_id="s", trial=0, score=0.5, best=0.5),
            RunEnded(run_id="s", status="done", elapsed_s=1.0),
        ]
    )
    now.store.flush()
    return running.load_study(now.store, "s")


def test_adopting_loads_the_best_state_and_says_so(fresh):
    signature = dx.Signature("message -> desk").with_name("Triage")
    program, best = dx.Predict(signature), dx.Predict(signature)
    best.demos = [{"message": "m", "desk": "tech"}]
    study = Study(lambda bus: ended(session(), best.dump_state()), session(), program)
    assert ADOPT in Dashboard(study.feed).html()
    assert "1 / 4" in Dashboard(study.feed).html()
    assert study.adopt() is program
    assert program.demos == best.demos
    assert "adopted: Triage now uses the best program" in Dashboard(study.feed).html()
    assert ADOPT not in Dashboard(study.feed).html()


def test_a_study_without_its_program_offers_no_button(fresh):
    study = Study(lambda bus: ended(session(), {"demos": []}), session())
    assert ADOPT not in Dashboard(study.feed).html()
    with pytest.raises(StudyError):
        study.adopt()
