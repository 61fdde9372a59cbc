"""A study's feed, its dashboard and its plots, from the run store alone: as a later kernel finds them."""

import importlib.util
import json
from pathlib import Path

import pytest

import dspex_nb as dx
from dspex_nb.api.sessions import session
from dspex_nb.api.study_views import Dashboard, StudyFeed
from dspex_nb.errors import StudyError
from dspex_nb.events import TrialEnded, TrialStarted

_spec = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).parents[2] / "benchmarks" / "synthetic_study.py")
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)
KEPT = {
    "outputs": [{"text": "[[ ## desk ## ]]\npayment <b>"}],
    "messages": [{"role": "user", "content": "My card was charged twice."}],
}


@pytest.fixture
def now(fresh):
    """A session whose run store holds an ended study "s" of 40 trials and one "g" that GEPA began."""
    made = session()
    made.store.append(synthetic.events(40, 8, ended="stopped"))
    made.store.append(synthetic.events(12, 8, run_id="g", kind="GEPA"))
    assert made.store.flush(20)
    return made


def opened(html):
    return html.count("▾ ")


def test_a_later_kernel_shows_the_study_and_each_plot_alone(now):
    study = dx.load_study("s")
    for name in ("history", "spending", "cost", "minibatch", "examples", "choices", "parallel", "candidates"):
        figure = getattr(study, f"plot_{name}")()
        assert figure.layout.title.text
        assert figure.layout.meta["alt"]
    html = Dashboard(study.feed).html()
    assert "stopped" in html
    assert "Adopt" not in html  # its program was never made again
    assert study.feed.snapshot().facts.optimizer == "MIPROv2"


def test_only_what_is_new_is_read_and_a_trial_that_ends_replaces_its_row(now):
    feed = StudyFeed(now.store, "g", lambda: "running")
    assert len(feed.snapshot().trials) == 12
    read = feed.version
    assert feed.snapshot().facts.live
    assert feed.version == read
    now.store.append([TrialStarted(run_id="g", trial=12, info={"kind": "candidate", "examples": 8})])
    now.store.flush()
    assert feed.snapshot().trials.status[12] == "running"
    now.store.append([TrialEnded(run_id="g", trial=12, score=0.99, best=0.99, examples=8, elapsed_s=1.0, info={"label": "new"})])
    now.store.flush()
    found = feed.snapshot()
    assert (len(found.trials), found.trials.status[12], found.best) == (13, "done", 12)
    assert feed.version == read + 2


def test_paid_saved_and_unknown_come_from_the_store(now):
    facts = StudyFeed(now.store, "s").snapshot(examples=False).facts
    usage = now.store.usage("s")
    assert facts.paid == usage.cost > 0
    assert facts.saved == usage.saved_cost > 0
    assert (facts.cache_hits, facts.unpriced) == (usage.cache_hits, usage.unpriced)


def test_what_a_reader_chooses_is_shown(now):
    board = Dashboard(StudyFeed(now.store, "s"))
    assert json.loads(board.plot() or "null") is None
    board.html()
    assert json.loads(board.plot())["name"] == "history"
    board.choose("plot", "candidates")
    assert 'data-dspex-figure="candidates"' in board.html()
    assert json.loads(board.plot())["name"] == "candidates"
    board.choose("sort", "score")
    board.choose("filter", "kind:minibatch score>0.1")
    html = board.html()
    assert 'value="kind:minibatch score&gt;0.1"' in html
    assert "Score ▾" in html
    board.choose("sort", "score")
    board.choose("page", "1")
    html = board.html()
    assert "Score ▴" in html
    assert "page 2 of" in html
    board.choose("trial", "12")
    assert "Instructions" in board.html()
    board.choose("trial", "")
    assert "Instructions" not in board.html()
    before = board.html()
    for action, value in (("plot", "no such"), ("page", "-1"), ("trial", "x"), ("call", "x"), ("nothing", "1")):
        board.choose(action, value)
    assert board.html() == before


def test_a_front_end_without_plotly_gets_a_picture(now):
    board = Dashboard(StudyFeed(now.store, "s"))
    board.choose("still", "")
    assert "data:image/svg+xml;base64," in board.html()
    assert board.plot() == ""


def test_a_calls_text_is_read_from_the_cache_and_looking_saves_nothing(now):
    board = Dashboard(StudyFeed(now.store, "s", cache=now.cache))
    call, other = now.store.calls("s", trial=0)[:2]
    key = call.key
    now.cache.put(key, KEPT)
    board.choose("trial", "0")
    board.choose("call", str(call.seq))
    html = board.html()
    assert "My card was charged twice." in html
    assert "payment &lt;b&gt;" in html
    assert now.cache.stats().hits_memory == 0
    board.choose("call", str(other.seq))
    assert "gone from the cache" in board.html()


def test_a_trial_is_compared_with_its_parent_or_with_the_start(now):
    feed = StudyFeed(now.store, "g")
    feed.snapshot()
    child = feed.detail(5)
    assert child.relation == "parent"
    assert child.against.trial == child.trial.parent
    assert feed.detail(0).against is None
    assert feed.detail(99) is None
    now.store.append([TrialEnded(run_id="g", trial=12, score=0.1, best=0.5, info={"kind": "candidate", "instructions": "New."})])
    now.store.flush()
    orphan = feed.detail(12)
    assert (orphan.relation, orphan.against.trial) == ("start", 0)


def test_examples_at_hand_are_shown_with_their_failures(now):
    feed = StudyFeed(now.store, "s")
    feed.shown.rows = [{"message": f"message {n}"} for n in range(8)]
    board = Dashboard(feed)
    board.choose("trial", "0")
    assert "message: message" in board.html()


def test_a_change_of_status_asks_for_keeping(now):
    status, kept = ["running"], []
    board = Dashboard(StudyFeed(now.store, "g", lambda: status[0]))
    board.on_status = lambda: kept.append(status[0])
    board.html()
    status[0] = "paused"
    board.html()
    board.html()
    assert kept == ["paused"]


def test_what_a_saved_notebook_keeps(now):
    board = Dashboard(StudyFeed(now.store, "s"))
    first, html = board.still(), board.still()
    assert first.count("data:image/svg+xml;base64,") == 1
    assert 'data-dspex-action="stop' not in first
    assert html.count("data:image/svg+xml;base64,") == 8
    assert "against the" in html
    assert "data-dspex-action" not in html


def test_studies_are_compared_by_id(now):
    figure = dx.compare_studies(["s", "g"])
    assert [trace.name for trace in figure.data] == ["Triage: MIPROv2", "Triage: GEPA"]
    assert figure.layout.xaxis.title.text == "LM calls"
    assert dx.compare_studies([dx.load_study("s")], by="cost").layout.xaxis.tickprefix == "$"
    with pytest.raises(StudyError, match="there is no study 'nosuch'"):
        dx.compare_studies(["nosuch"])
    with pytest.raises(StudyError, match="did you mean 'calls'"):
        dx.compare_studies(["s"], by="call")
