"""The quickstart in a real kernel, on the embedded model: what a reader would see is what is asserted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.notebook, pytest.mark.model, pytest.mark.timeout(900)]
QUICKSTART = Path(__file__).parents[2] / "notebooks" / "01_quickstart.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = nbformat.read(QUICKSTART, as_version=4)
    folder = tmp_path_factory.mktemp("quickstart")
    NotebookClient(notebook, timeout=800, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    notebook.metadata["folder"] = str(folder)
    return notebook


def output_of(notebook, start, mime="text/plain"):
    """Return what the code cell whose text holds `start` shows, of one mime type."""
    cell = next(c for c in notebook.cells if c.cell_type == "code" and start in c.source)
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream" and mime == "text/plain":
            parts.append(output.text)
        elif mime in output.get("data", {}):
            parts.append(output.data[mime])
    assert parts, f"{start!r} shows no {mime}: {cell.outputs}"
    return "\n".join(map(str, parts))


def test_every_code_cell_ran_without_an_error(executed):
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert [o for cell in code for o in cell.outputs if o.output_type == "error"] == []


def test_the_card_shows_fields_prompt_and_schema(executed):
    html = output_of(executed, "%%signature Triage", "text/html")
    for expected in ("what the customer wrote", "Exact prompt", "JSON schema", "urgency", "payment"):
        assert expected in html


def test_the_second_call_is_shown_as_cached(executed):
    cells = [c for c in executed.cells if c.cell_type == "code" and "I was charged twice" in c.source]
    first, second = ("".join(o.data["text/html"] for o in c.outputs if "data" in o) for c in cells)
    assert "from cache" in second
    assert "native" in first
    assert "tokens" in first


def test_the_run_view_ends_with_every_step_done_and_its_route(executed):
    html = output_of(executed, "run = support.run", "text/html")
    for step in ("text", "triage", "signs", "gist", "note"):
        assert step in html
    assert "dspy" in html
    assert "image/svg+xml" in html


def test_map_keeps_the_bad_row_and_its_error(executed):
    text = output_of(executed, "support.map(inbox)", "text/html")
    assert "the message is empty" in text


def test_the_evaluation_shows_interval_failures_and_plot(executed):
    html = output_of(executed, "before = %evaluate", "text/html")
    assert "95% CI" in html
    assert "failure" in html
    figure = next(
        o.data["application/vnd.plotly.v1+json"]
        for c in executed.cells
        if "before = %evaluate" in c.source
        for o in c.outputs
        if "application/vnd.plotly.v1+json" in o.get("data", {})
    )
    assert json.loads(json.dumps(figure))["data"]


def test_the_study_ended_and_its_trials_are_shown(executed):
    view = output_of(executed, "study = %optimize", "text/plain")
    assert "done" in view
    trials = output_of(executed, "result = study.wait()", "text/html")
    assert trials.count("<tr") >= 6


def test_before_and_after_are_compared_in_words(executed):
    text = output_of(executed, "after.compare(before)")
    assert re.search(r"before", text)
    assert re.search(r"It (helped|hurt|made|changed nothing)|chance|difference", text)


def test_plain_dspy_gives_the_same_answer(executed):
    text = output_of(executed, "plain.load")
    found = re.search(r"dspex_nb: (\w+), urgency (\d+)\s+plain DSPy: (\w+), urgency (\d+)", text)
    assert found
    assert found.group(1, 2) == found.group(3, 4)


def test_outputs_hold_no_widget_code_and_stay_small(executed):
    outputs = [{**cell, "source": ""} for cell in executed.cells if cell.cell_type == "code"]
    assert "export default" not in json.dumps(outputs)
    assert len(json.dumps(outputs)) < 500_000
