"""Events become states: complete, in disorder, of other runs, from many threads."""

import threading

from dspex_nb import views as v
from dspex_nb.events import (
    LMCalled,
    Progress,
    RowScored,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    TokenReceived,
    TrialEnded,
    TrialStarted,
)

PIPE = {
    "name": "support",
    "inputs": [{"name": "message", "type": "str"}],
    "steps": [{"name": "a", "kind": "function"}, {"name": "b", "kind": "predict"}],
    "edges": [["a", "b"]],
}


def feed(state, *events):
    for event in events:
        state.apply(event)
    return state


def steps(info):
    return {s.name: s for s in info.steps}


def test_a_run_from_start_to_end():
    state = v.RunState()
    feed(
        state,
        RunStarted(
            run_id="r",
            at=10,
            name="support",
            of="pipeline",
            info={**PIPE, "routes": [{"step": "b", "engine": "native", "pool": "threads", "reason": "Because."}]},
        ),
    )
    assert [s.state for s in state.snapshot(11).steps] == ["waiting", "waiting"]
    assert steps(state.snapshot(11))["b"].reason == "Because."
    feed(state, StepStarted(run_id="r", at=11, step="a", engine="python", reason="It is Python."))
    running = steps(state.snapshot(13))["a"]
    assert (running.state, running.elapsed_s) == ("running", 2)
    feed(
        state,
        StepEnded(run_id="r", at=12, step="a", status="done", elapsed_s=1.0),
        StepStarted(run_id="r", at=12, step="b"),
        LMCalled(run_id="r", step="b", model="m", prompt_tokens=10, completion_tokens=5, cost=0.25),
        LMCalled(run_id="r", step="b", model="m", prompt_tokens=10, completion_tokens=5, cached="disk"),
        StepEnded(run_id="r", at=14, step="b", status="done", elapsed_s=2.0),
        RunEnded(run_id="r", at=14, status="done", elapsed_s=4.0),
    )
    info = state.snapshot(99)
    b = steps(info)["b"]
    assert (b.calls, b.cache_hits, b.tokens) == (1, 1, 30)
    assert (info.status, info.elapsed_s, info.calls, info.cache_hits, info.cost) == ("done", 4.0, 1, 1, 0.25)


def test_events_of_another_run_and_unknown_events_change_nothing():
    state = feed(v.RunState("r"), RunStarted(run_id="r", at=1, name="p", of="pipeline", info=PIPE))
    before = state.snapshot(5)
    feed(
        state,
        StepStarted(run_id="other", step="a"),
        TokenReceived(run_id="r", step="a", text="x"),
        Progress(run_id="r", done=1, total=2),
    )
    assert state.snapshot(5) == before


def test_a_run_seen_late_and_in_disorder_is_still_shown():
    state = feed(
        v.RunState(),
        StepEnded(run_id="r", step="b", status="done", elapsed_s=1.0),
        LMCalled(run_id="r", step="c", model="m"),
        RunEnded(run_id="r", status="done"),
    )
    info = state.snapshot()
    assert info.status == "done"
    assert steps(info)["b"].state == "done"
    assert "done" in v.run_text(info)
    assert "support" not in v.run_html(info)


def test_a_price_unknown_once_is_unknown_in_sum_but_a_cache_hit_is_free():
    state = feed(
        v.RunState(), LMCalled(run_id="r", model="m", cached="memory", cost=None), LMCalled(run_id="r", model="m", cost=0.1)
    )
    assert state.snapshot().cost == 0.1
    assert feed(state, LMCalled(run_id="r", model="m", cost=None)).snapshot().cost is None


def test_a_run_that_was_stopped_leaves_no_step_running():
    state = feed(
        v.RunState(described=PIPE), StepStarted(run_id="r", at=1, step="a"), RunEnded(run_id="r", at=3, status="cancelled")
    )
    assert [s.state for s in state.snapshot().steps] == ["cancelled", "waiting"]
    state.set_status("stopping")
    assert state.snapshot().status == "cancelled"


def test_retries_are_counted():
    state = feed(v.RunState(), *[StepStarted(run_id="r", step="a") for _ in range(3)])
    assert steps(state.snapshot())["a"].attempts == 3
    assert "try 3" in v.run_html(state)


def test_buttons_show_only_while_they_can_do_something():
    state = feed(v.RunState(described=PIPE), StepStarted(run_id="r", step="a"))
    assert 'data-dspex-action="cancel"' in v.run_html(state)
    assert "<button" not in v.run_html(state, stop=False)
    feed(state, RunEnded(run_id="r", status="done"))
    assert "<button" not in v.run_html(state)


def test_progress_rate_and_eta_follow_the_last_seconds():
    state = feed(v.ProgressState(), RunStarted(run_id="m", at=0, name="support", of="map", total=100))
    feed(state, Progress(run_id="m", at=30, done=1, total=100))  # the model loads
    feed(state, *[Progress(run_id="m", at=30 + i, done=1 + 2 * i, total=100, errors=1) for i in range(1, 21)])
    info = state.snapshot(50)
    assert (info.done, info.errors) == (41, 1)
    assert abs(info.rate - 2.0) < 0.3
    assert abs(info.eta_s - 59 / info.rate) < 1e-9
    feed(state, Progress(run_id="m", at=51, done=40, total=100))
    assert state.snapshot(51).done == 41
    feed(state, RunEnded(run_id="m", status="cancelled", elapsed_s=52))
    ended = state.snapshot(999)
    assert (ended.eta_s, ended.elapsed_s, ended.status) == (None, 52, "cancelled")


def test_progress_shows_the_mean_so_far():
    state = feed(v.ProgressState(), *[RowScored(run_id="e", index=i, scores={"f1": i % 2}) for i in range(4)])
    assert state.snapshot().score == 0.5
    assert "f1" in v.progress_text(state)


def study(*more):
    start = RunStarted(
        run_id="s", at=0, name="Triage", of="study", total=3, info={"optimizer": "MIPROv2", "metric": "f1", "start_score": 0.4}
    )
    return feed(
        v.StudyState(),
        start,
        TrialStarted(run_id="s", at=1, trial=0, info={"what": "zero-shot"}),
        LMCalled(run_id="s", trial=0, model="m", cost=0.0),
        TrialEnded(run_id="s", at=4, trial=0, score=0.5, best=0.5, info={"demos": [{"q": 1}], "instructions": "Be brief."}),
        TrialEnded(run_id="s", at=6, trial=2, score=0.7, best=0.7),
        TrialEnded(run_id="s", at=7, trial=1, score=0.7, best=0.7, elapsed_s=2.0),
        *more,
    )


def test_a_study_keeps_trials_by_number_and_the_earliest_best():
    info = study().snapshot(8)
    assert [t.number for t in info.trials] == [0, 1, 2]
    first = info.trials[0]
    assert (first.what, first.demos, first.instructions, first.calls, first.elapsed_s) == (
        "zero-shot",
        1,
        {"": "Be brief."},
        1,
        3,
    )
    assert info.best.number == 1
    assert info.start == 0.4
    assert v.history_info(info).best == (0.5, 0.7, 0.7)


def test_a_study_shows_the_buttons_of_its_state():
    state = study()
    buttons = {"running": {"pause", "stop"}, "paused": {"resume", "stop"}, "stopping": set(), "interrupted": set()}
    for status, expected in buttons.items():
        state.set_status(status)
        html = v.study_html(state)
        assert {a for a in ("pause", "resume", "stop") if f'data-dspex-action="{a}"' in html} == expected, status
    assert "kernel that ran it ended" in v.study_html(state)
    state.set_status("running")
    assert state.snapshot().status == "interrupted"


def test_a_stopped_study_says_so_and_leaves_no_trial_running():
    state = study(TrialStarted(run_id="s", at=8, trial=3), RunEnded(run_id="s", at=9, status="cancelled"))
    assert state.snapshot().trials[-1].state == "cancelled"
    assert "stopped" in v.study_html(state)


def test_the_best_of_an_ended_study_can_be_adopted_once():
    adopt = 'data-dspex-action="adopt"'
    assert adopt not in v.study_html(study())
    state = study(RunEnded(run_id="s", at=9, status="done"))
    assert adopt in v.study_html(state)
    state.set_adoptable(False)
    assert "<button" not in v.study_html(state)
    unscored = feed(v.StudyState("s"), RunEnded(run_id="s", at=9, status="failed"))
    assert "<button" not in v.study_html(unscored)


def test_snapshots_are_whole_while_many_threads_apply():
    state, faults = v.StudyState("s"), []

    def write(offset):
        for i in range(100):
            state.apply(TrialEnded(run_id="s", trial=offset * 100 + i, score=0.5, best=0.5))
            state.apply(LMCalled(run_id="s", model="m"))

    def look():
        try:
            for _ in range(20):
                v.study_text(state)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)] + [threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    info = state.snapshot()
    assert (len(info.trials), info.calls, faults) == (400, 400, [])


def test_a_start_is_known_by_its_kind_and_a_score_on_a_part_is_no_rival():
    state = v.StudyState()
    demos = {"predict": {"demos": [{"q": "1"}, {"q": "2"}], "signature": {}}}
    start = {"kind": "start", "label": "zero-shot", "demos": 0}
    feed(
        state,
        TrialEnded(run_id="s", trial=0, score=0.5, best=0.5, info=start),
        TrialEnded(
            run_id="s",
            trial=1,
            score=0.9,
            best=0.5,
            info={"kind": "minibatch", "label": "2 labelled demos", "demos": 2, "state": demos},
        ),
        TrialEnded(run_id="s", trial=2, score=0.6, best=0.6, info={"kind": "candidate", "errors": 3}),
    )
    info = state.snapshot()
    assert (info.start, info.best.number) == (0.5, 2)
    assert info.trials[1].demo_list == ({"q": "1"}, {"q": "2"})
    assert v.history_info(info).best == (0.5, 0.5, 0.6)
    html = v.study_html(info)
    assert "as it was: zero-shot" in html
    assert "3 examples ended in an error" in html
