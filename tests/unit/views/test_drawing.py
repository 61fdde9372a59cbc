"""What the views say: numbers, tables, pictures, verdicts, figures."""

import itertools
import random
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from dspex_nb import views as v
from dspex_nb.messages import Usage
from dspex_nb.predictions import Facts, Prediction, Route
from dspex_nb.views.formats import bytes_text, cost_text, seconds_text, value_text
from dspex_nb.views.layout import Box, place


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "\u2013"), (0.34, "340 ms"), (3.21, "3.2 s"), (59.97, "1 min 00 s"), (125, "2 min 05 s"), (3840, "1 h 04 min")],
)
def test_seconds(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("cost", "text"), [(None, "unknown"), (0.0, "free"), (0.00123, "$0.0012"), (0.25, "$0.25"), (1234.5, "$1,234.50")]
)
def test_cost(cost, text):
    assert cost_text(cost) == text


def test_values():
    assert value_text({"a": {1}}) == '{"a": [1]}'
    assert value_text(True) == "True"
    assert value_text(1 / 3) == "0.3333"
    assert bytes_text(3 * 1024 * 1024) == "3.0 MiB"


def test_a_prediction_says_what_it_took_and_that_it_came_from_the_cache():
    facts = Facts(Usage(100, 7, 0, 0, 1), None, Route("", "native", "threads", "It is exact."), "r", 0.002, "disk")
    html = v.prediction_html(Prediction({"usage": "low", "desk": "tech"}, facts))
    for said in ("from cache (disk)", "native engine", "It is exact.", "100 in", "7 out", "free", "2 ms", "low", "tech"):
        assert said in html
    assert "from cache" not in v.prediction_html(Prediction({"desk": "tech"}))
    assert "unknown" in v.prediction_html(Prediction({"desk": "tech"}))


def test_long_tables_are_cut_with_a_note():
    html = v.table_html(["n"], [[i] for i in range(80)], rest=".frame")
    assert "first 50 of 80; all in .frame" in html
    assert html.count("<tr") == 51
    assert "30 more" in v.table_text(["n"], [[i] for i in range(80)])


def test_text_tables_align_wide_characters():
    lines = v.table_text(["a", "b"], [["日本", "x"], ["abcd", "y"]]).splitlines()
    assert lines[2] == "日本  x"
    assert lines[3] == "abcd  y"


STEPS = [
    {"name": "clean", "reads": ["message"], "writes": ["text"]},
    {"name": "both", "kind": "parallel", "reads": ["text"]},
    {"name": "both.a", "parent": "both", "kind": "predict"},
    {"name": "both.b", "parent": "both", "kind": "predict"},
    {"name": "end", "reads": ["both", "message"]},
]
PIPE = {
    "name": "p",
    "inputs": [{"name": "message", "type": "str"}],
    "steps": STEPS,
    "edges": [["clean", "both"], ["both", "end"]],
}


def test_a_pipeline_as_line_text_mermaid_and_picture():
    assert v.pipeline_line(PIPE) == "message → clean → both(a | b) → end"
    assert "clean" in v.pipeline_text(PIPE).splitlines()[1]
    mermaid = v.pipeline_mermaid(PIPE)
    assert 'subgraph s1["both"]' in mermaid
    assert "s0 --> s1" in mermaid
    assert "i0 --> s4" in mermaid
    marks = {"clean": v.StepMark("done", "python", 0.1), "end": v.StepMark("failed")}
    texts = [e.text for e in ET.fromstring(v.pipeline_picture(PIPE, marks)).iter() if e.tag.endswith("text")]  # noqa: S314 - our own picture
    assert {"clean", "a", "b", "end", "message: str", "✓", "✗"} <= set(texts)


def test_an_odd_description_is_still_drawn():
    for odd in (
        {},
        {"steps": [{"name": "a", "parent": "a"}], "edges": [["a", "x"]]},
        {"steps": [{"name": "a"}, {"name": "b"}], "edges": [["a", "b"], ["b", "a"]]},
    ):
        ET.fromstring(v.pipeline_picture(odd))  # noqa: S314 - our own picture
        v.pipeline_text(odd)
        v.pipeline_mermaid(odd)


@pytest.mark.parametrize("sideways", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_boxes_never_overlap_and_edges_go_forward(seed, sideways):
    rng = random.Random(seed)
    n = rng.randint(2, 24)
    boxes = [Box(str(i), rng.randint(60, 200), 42) for i in range(n)]
    edges = [(str(rng.randrange(i)), str(i)) for i in range(1, n) for _ in range(rng.randint(0, 3))]
    layout = place(boxes, edges, sideways=sideways, gap=10, layer_gap=30)
    for a, b in itertools.combinations(layout.boxes.values(), 2):
        apart = (
            a.x + a.width <= b.x + 0.01
            or b.x + b.width <= a.x + 0.01
            or a.y + a.height <= b.y + 0.01
            or b.y + b.height <= a.y + 0.01
        )
        assert apart, (a, b)
    assert all(layout.depth[a] < layout.depth[b] for a, b in edges)
    assert all(box.x >= -0.01 and box.y >= -0.01 for box in layout.boxes.values())


def test_the_picture_keeps_its_shape_while_a_run_goes_on():
    waiting = v.pipeline_picture(PIPE, {s["name"]: v.StepMark("waiting") for s in STEPS})
    ended = v.pipeline_picture(PIPE, {s["name"]: v.StepMark("done", "", 0.48) for s in STEPS})
    assert waiting.split(" role")[0] == ended.split(" role")[0]


def compare(before, after, interval=None, **options):
    return v.comparison_sentence(
        v.ComparisonInfo(
            "f1",
            v.ScoreInfo("before", before, (before - 0.1, before + 0.1), 40),
            v.ScoreInfo("after", after, (after - 0.1, after + 0.1), 40),
            interval,
            **options,
        )
    )


def test_a_comparison_says_no_more_than_the_numbers_allow():
    assert compare(0.5, 0.7, (0.1, 0.3)).startswith("It helped: f1 rose from 0.500 to 0.700 (+0.200) on 40 examples")
    assert compare(0.7, 0.5, (-0.3, -0.1)).startswith("It made things worse: f1 fell")
    assert compare(0.7, 0.5, (-0.3, -0.1), lower_is_better=True).startswith("It helped: f1 fell from 0.700")
    assert compare(0.5, 0.7, (0.1, 0.3), lower_is_better=True).startswith("It made things worse: f1 rose")
    assert compare(0.5, 0.55, (-0.02, 0.1)).startswith("No clear difference: f1 rose")
    assert compare(0.5, 0.55).startswith("No clear difference")
    assert compare(0.5, 0.8).startswith("It helped")
    assert compare(0.5, 0.5, (0.0, 0.0)).startswith("It changed nothing")


def evaluation():
    rows = [("a", "a"), ("a", "b"), ("b", "b"), ("b", "zzz")] * 20
    examples = [
        v.ExampleInfo(i, {"text": f"t{i}"}, {"label": want}, {"label": got}, {"exact": float(want == got)}, want == got, 0.1)
        for i, (want, got) in enumerate(rows)
    ]
    metrics = [v.MetricInfo("exact", 0.5, (0.39, 0.61))]
    return v.EvaluationInfo("p", metrics, examples, labels=v.labels_info("label", rows), elapsed_s=2)


def test_an_evaluation_shows_score_interval_and_failures_before_all():
    html = v.evaluation_html(evaluation())
    assert "95% CI 0.390 to 0.610" in html
    assert html.index("40 failures") < html.index("All 80 examples")
    assert "first 10 of 80; all in .frame" in html
    assert "✓" in html
    assert "✗" in html
    text = v.evaluation_text(evaluation())
    assert "by label (label): a 20/40, b 20/40" in text


def test_labels_are_counted():
    info = evaluation().labels
    assert (info.labels, info.predicted) == (("a", "b"), ("a", "b", "(other)"))
    assert info.matrix == ((20, 20, 0), (0, 20, 20))
    assert v.labels_info("id", [(i, i) for i in range(30)]) is None
    assert v.labels_info("id", []) is None


def test_figures_hold_the_columns_and_no_background():
    labels = v.plot_labels(evaluation())
    assert [list(row) for row in labels.data[1].z] == [[20, 20, 0], [0, 20, 20]]
    assert labels.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert set(v.labels_bundle(evaluation())) == {"application/vnd.plotly.v1+json", "text/html", "text/plain"}
    with pytest.raises(ValueError, match="label"):
        v.plot_labels(v.EvaluationInfo("p", []))


def test_importing_views_and_widgets_loads_nothing_heavy():
    code = "import sys, dspex_nb.views, dspex_nb.widgets; print(*({'plotly', 'pandas', 'ipywidgets', 'anywidget', 'IPython', 'dspy', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
