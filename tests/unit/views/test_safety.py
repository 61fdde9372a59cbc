"""What models, users and providers wrote never becomes markup, in any view, in any field."""

import re

import pytest

from dspex_nb import views as v
from dspex_nb.events import RunEnded, RunStarted, StepEnded, StepStarted
from dspex_nb.runs.traces import TracedCall

from .hostile import BAD, check_svg, read

DESCRIBED = {
    "name": BAD,
    "inputs": [{"name": BAD, "type": BAD}],
    "steps": [
        {"name": BAD, "kind": BAD, "engine": BAD, "reads": [BAD], "writes": [BAD], "parent": None},
        {"name": "group", "kind": BAD, "parent": None},
        {"name": BAD + "child", "kind": BAD, "parent": "group"},
    ],
    "edges": [[BAD, "group"]],
    "outputs": [BAD],
}


def bad_run():
    state = v.RunState()
    for event in (
        RunStarted(run_id="r", name=BAD, of="pipeline", info=DESCRIBED),
        StepStarted(run_id="r", step=BAD, engine=BAD, reason=BAD),
        StepEnded(run_id="r", step=BAD, status=BAD, error=BAD),
        RunEnded(run_id="r", status=BAD, error=BAD + "\n→ " + BAD),
    ):
        state.apply(event)
    return state.snapshot()


def bad_evaluation():
    values = {BAD: BAD, "two": [BAD, {BAD: BAD}]}
    examples = [v.ExampleInfo(0, values, values, values, {BAD: 1.0}, correct=False), v.ExampleInfo(1, values, error=BAD)]
    labels = v.labels_info(BAD, [(BAD, BAD), ("x", BAD * 2)])
    return v.EvaluationInfo(BAD, [v.MetricInfo(BAD, 0.5, (0.1, 0.9)), v.MetricInfo(BAD, 1.0)], examples, BAD, labels, note=BAD)


def bad_trace(at=0):
    call = TracedCall(
        BAD,
        ({"role": BAD, "content": BAD}, {"role": "user", "content": [{"text": BAD}]}),
        (BAD, BAD),
        BAD,
        BAD,
        {BAD: BAD},
        cached=BAD,
        error=BAD,
    )
    values = {BAD: BAD, "two": [BAD, {BAD: BAD}]}
    return v.ExampleInfo(at, values, values, values, {BAD: 1.0}, False, 0.1, BAD, calls=(call, call), outputs=values)


def bad_table():
    table = v.ExampleTable([BAD], [bad_trace(at) for at in range(30)])
    table.open("0")
    table.find("script")
    table.order(BAD)
    return table


def bad_change():
    values = {BAD: BAD, "two": BAD}
    return v.ChangeInfo(0, values, values, values, {"error": BAD}, 1.0, 0.0)


FIELD = v.FieldInfo(BAD, BAD, BAD, BAD)
CARD = v.SignatureCardInfo(BAD, BAD, (FIELD,), (FIELD,), BAD, ({"role": BAD, "content": BAD}, {"role": "user", "content": [{"text": BAD}, BAD]}), {BAD: BAD})  # fmt: skip
STATUS = v.StatusInfo(BAD, ((BAD, BAD),), BAD, v.CacheInfo(1, 1, 1, directory=BAD), (v.PoolInfo(BAD, BAD),), notes=(BAD,))
VIEWS = {
    "signature": lambda: v.signature_card(CARD),
    "prediction": lambda: v.prediction_html(v.PredictionInfo([(BAD, BAD)], [(BAD, [BAD])], BAD, BAD, cached=BAD)),
    "run": lambda: v.run_html(bad_run()),
    "plan": lambda: v.plan_html(v.PlanInfo(BAD, [v.RouteInfo(BAD, BAD, BAD, BAD)], DESCRIBED)),
    "pipeline": lambda: v.pipeline_html(DESCRIBED),
    "progress": lambda: v.progress_html(v.ProgressInfo(BAD, BAD, BAD, 1, 2, 1, score=0.5, metric=BAD, error=BAD)),
    "evaluation": lambda: v.evaluation_html(bad_evaluation()),
    "evaluation traced": lambda: v.evaluation_html(v.EvaluationInfo(BAD, [v.MetricInfo(BAD, 0.5)], [bad_trace()], BAD, total=9)),
    "evaluation live": lambda: v.evaluation_live_html(bad_evaluation(), bad_table()),
    "evaluating": lambda: v.evaluating_html(v.ProgressInfo(BAD, BAD, BAD, 1, 2, 1, metric=BAD), bad_table()),
    "trace": lambda: v.trace_html(bad_trace()),
    "changes": lambda: v.comparison_html(
        v.ComparisonInfo(
            BAD,
            v.ScoreInfo(BAD, 0.1),
            v.ScoreInfo(BAD, 0.2),
            test=BAD,
            p_value=0.5,
            left_out=(1, 2),
            losses=[bad_change()],
            wins=[bad_change()],
            lost=1,
            won=1,
        )
    ),
    "synthesis": lambda: v.synthesis_html(
        v.SynthesisInfo(BAD, 3, BAD, 4, 1, reasons=[(BAD, 1)], fields=[BAD], examples=[{BAD: BAD}], note=BAD)
    ),
    "comparison": lambda: v.comparison_html(v.ComparisonInfo(BAD, v.ScoreInfo(BAD, 0.1), v.ScoreInfo(BAD, 0.2), title=BAD)),
    "status": lambda: v.status_html(STATUS),
    "listing": lambda: v.listing_html(BAD, [BAD], [[BAD], [{BAD: BAD}]], note=BAD),
    "table": lambda: v.table_html([BAD], [[BAD * 20]]),
}


@pytest.mark.parametrize("name", VIEWS)
def test_hostile_text_stays_text(name):
    html = VIEWS[name]()
    text = read(html)
    assert "<script>alert(1)</script>" in text
    html.encode("utf-8")  # lone surrogates would break the message to the front end
    assert not re.search("[\x00\x1b]", html)
    read(v.static(html))


def test_static_leaves_out_buttons_and_nothing_else():
    state = v.RunState(described=DESCRIBED)
    state.apply(StepStarted(run_id="r", step=BAD, engine=BAD, reason=BAD))
    html = v.run_html(state)
    assert html.count("<button") == 1
    still = v.static(html)
    assert "<button" not in still
    assert read(still) in read(html).replace("Stop", "")


def test_hostile_text_stays_text_in_still_figures():
    check_svg(v.labels_svg(bad_evaluation().labels))


def test_a_broken_repr_breaks_no_view():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    assert "Broken" in v.prediction_html(v.PredictionInfo([("x", Broken())]))
