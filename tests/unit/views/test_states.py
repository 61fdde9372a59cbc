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


def test_the_steps_of_an_inner_pipeline_stand_below_it():
    names = ["a", "a/x", "a/x.part", "b"]
    described = {**PIPE, "steps": [{"name": "a", "kind": "pipeline"}, {"name": "b", "kind": "predict"}]}
    state = feed(v.RunState(described=described), *(StepStarted(run_id="r", step=name) for name in names))
    assert [steps(state.snapshot())[name].parent for name in names] == ["", "a", "a/x", ""]
    shown = v.run_text(state)
    assert shown.index("a/x.part") < shown.index("\nb ")
    routes = [v.RouteInfo(name, "python", "", "Because.") for name in names]
    drawn = v.plan_html(v.PlanInfo("p", routes, described))
    assert drawn.count("└") == 2
    assert "a/x<" not in drawn


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


def test_snapshots_are_whole_while_many_threads_apply():
    state, faults = v.RunState("r"), []

    def write(offset):
        for i in range(100):
            state.apply(StepEnded(run_id="r", step=f"s{offset * 100 + i}", status="done"))
            state.apply(LMCalled(run_id="r", model="m"))

    def look():
        try:
            for _ in range(20):
                v.run_text(state)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)] + [threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    info = state.snapshot()
    assert (len(info.steps), info.calls, faults) == (400, 400, [])
