"""What models, users and providers wrote never becomes markup, in any view, in any field."""

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dspex_nb import views as v
from dspex_nb.events import RunEnded, RunStarted, StepEnded, StepStarted, TrialEnded
from dspex_nb.runs.traces import TracedCall

BAD = "<script>alert(1)</script><img src=x onerror=\"alert('1')\"><b>]]>&amp; '\" </details></td>\x00\x1b[31m\ud800 javascript:1"
OURS = {
    "input", "select", "option", "div", "span", "strong", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "code", "button", "img",
}  # fmt: skip
ATTRIBUTES = {
    "style", "class", "align", "scope", "open", "src", "alt", "width", "type", "data-dspex-action", "data-dspex-value", "disabled",
    "colspan", "title", "aria-label", "placeholder", "value", "selected",
}  # fmt: skip
VOID = {"img", "input"}


class Reader(HTMLParser):
    """Checks that only this room's tags and attributes occur, that they nest, and keeps the text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.text, self.pictures = [], [], []

    def handle_starttag(self, tag, attrs):
        assert tag in OURS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            if name == "src":
                assert value.startswith("data:image/svg+xml;base64,")
                self.pictures.append(base64.b64decode(value.split(",")[1]).decode())
            if name == "style":
                assert "url(" not in value
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)

    def handle_decl(self, decl):
        raise AssertionError(decl)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.stack == []
    for picture in reader.pictures:
        check_svg(picture)
    return "".join(reader.text)


def check_svg(svg):
    for element in ET.fromstring(svg).iter():  # noqa: S314 - our own picture
        assert element.tag.rpartition("}")[2] in {"svg", "title", "style", "rect", "text", "path", "g", "line", "circle"}
        assert not any(name.lower().startswith("on") for name in element.attrib)


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


def bad_study():
    state = v.StudyState()
    info = {"optimizer": BAD, "metric": BAD, "options": {BAD: BAD}}
    state.apply(RunStarted(run_id="s", name=BAD, of="study", total=2, info=info))
    detail = {"what": BAD, "instructions": {BAD: BAD}, "demos": [{BAD: BAD}, BAD], "error": BAD}
    state.apply(TrialEnded(run_id="s", trial=0, score=0.5, best=0.5, info=detail))
    return replace(state.snapshot(), error=BAD, note=BAD)


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
    "study": lambda: v.study_html(bad_study()),
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
    html = v.study_html(replace(bad_study(), status="running"))
    assert html.count("<button") == 2
    still = v.static(html)
    assert "<button" not in still
    assert read(still) in read(html).replace("PauseStop", "")


@pytest.mark.parametrize("draw", [lambda: v.history_svg(bad_study()), lambda: v.labels_svg(bad_evaluation().labels)])
def test_hostile_text_stays_text_in_still_figures(draw):
    check_svg(draw())


def test_a_broken_repr_breaks_no_view():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    assert "Broken" in v.prediction_html(v.PredictionInfo([("x", Broken())]))
