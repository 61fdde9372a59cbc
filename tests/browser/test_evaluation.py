"""An evaluation in a real JupyterLab: rows stream in, are searched and opened; Stop keeps them, and resume goes on."""

from __future__ import annotations

import pytest

SETUP = """
import os, tempfile
os.environ["DSPEX_HOME"] = tempfile.mkdtemp()
import dspex_nb as dx
from dspex_nb.testing import ScriptedLM
def said(request):
    text = request.messages[-1]["content"]
    return "no JSON <b>here</b>" if "number 7 " in text else '{"desk": "billing"}'
lm = ScriptedLM(said, delay_s=0.01)
dx.configure(lm=lm, adapter="json")
triage = dx.Predict("message -> desk: Literal['billing', 'tech']")
def rows_of(count):
    return [{"message": f"Customer number {i} asks about {'a bill' if i % 3 else 'a broken router'}, please.", "desk": "billing" if i % 3 else "tech"} for i in range(count)]
%load_ext dspex_nb
"""
ASYNC = "import asyncio\nawait asyncio.sleep(0)\nsmall = dx.evaluate(triage, rows_of(6), 'exact_match:desk')"
SLOW = "slow = ScriptedLM(said, delay_s=0.25)\ndx.configure(lm=slow)\nrows = rows_of(400)\n%evaluate triage --data rows --metrics exact_match:desk --n-jobs 2"
AFTER = "kept = dx.load_evaluation()\nprint('kept', kept.status, kept.left < 400, len(kept.card.rows) > 1)\ndx.configure(lm=lm)"


def stderr_of(page, cell):
    return [o for o in page.outputs(cell) if o.get("name") == "stderr" or o["output_type"] == "error"]


@pytest.fixture
def evaluated(notebook):
    page = notebook(
        SETUP, "big = rows_of(120)\nfirst = %evaluate triage --data big --metrics exact_match:desk", ASYNC, SLOW, AFTER
    )
    for cell in (0, 1):
        page.run_cell(cell)
    return page


def test_rows_are_searched_sorted_and_opened(evaluated, shots):
    page = evaluated
    output = page.output(1)
    output.locator("table tbody tr").first.wait_for(timeout=20_000)
    assert stderr_of(page, 1) == []
    rows = output.locator("tr[data-dspex-action=open]")
    assert rows.count() == 20
    output.get_by_text("page 1 of 6").wait_for()
    output.locator("[aria-label='last page']").click()
    output.get_by_text("page 6 of 6").wait_for()
    box = output.locator("input[data-dspex-action=find]")
    box.click()
    page.page.keyboard.type("Number 7 asks")
    output.get_by_text("1 example", exact=True).wait_for(timeout=5000)
    assert page.page.evaluate("() => document.activeElement.dataset.dspexAction") == "find"
    rows.first.click()
    output.get_by_text("raw answer").wait_for(timeout=5000)
    assert output.get_by_text("Customer number 7 asks").count() >= 2
    output.screenshot(path=shots / "evaluation-trace-light.png")
    box.fill("")
    output.locator("select[data-dspex-action=show]").select_option("failures")
    output.get_by_text("41 examples", exact=True).wait_for(timeout=5000)
    try:
        for theme in ("Light", "Dark"):
            page.theme(f"JupyterLab {theme}")
            for width in (1400, 700):
                page.page.set_viewport_size({"width": width, "height": 1100})
                page.page.wait_for_timeout(150)
                output.screenshot(path=shots / f"evaluation-live-{theme.lower()}-{width}.png")
    finally:
        page.theme("JupyterLab Light")
        page.page.set_viewport_size({"width": 1400, "height": 1100})
    stored = next(o for o in page.outputs(1) if "text/html" in o.get("data", {}))
    html = "".join(stored["data"]["text/html"])
    assert "<input" not in html
    assert "data-dspex-action" not in html
    assert "no JSON &lt;b&gt;here" in html  # the failure's trace is in the saved notebook
    assert len(html) < 140_000
    assert page.errors == []


def test_an_async_cell_and_a_stop_that_keeps_the_rows(evaluated, shots):
    page = evaluated
    page.run_cell(2)
    assert stderr_of(page, 2) == []
    page.output(2).get_by_text("exact_match:desk").first.wait_for(timeout=20_000)
    page.start_cell(3)
    page.scroll_to(3)
    output = page.output(3)
    output.locator("tr[data-dspex-action=open]").nth(3).wait_for(timeout=20_000)
    output.screenshot(path=shots / "evaluation-running.png")
    output.get_by_role("button", name="Stop").click()
    output.get_by_text("rows are scored and kept").first.wait_for(timeout=5000)
    page.run_cell(4)
    assert any("kept cancelled True True" in "".join(o.get("text", "")) for o in page.outputs(4))
    assert page.errors == []
