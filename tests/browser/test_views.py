"""Every view in a real JupyterLab: it shows, it lives, its buttons answer, and the console stays silent."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat

HERE = str(Path(__file__).parent)
PATH = f"import sys; sys.path.insert(0, {HERE!r})\n"
VIEWS = [
    "signature", "prediction", "prediction_cached", "run", "run_failed", "run_big", "run_chain", "plan", "progress",
    "evaluation", "study", "study_done", "comparison", "status",
]  # fmt: skip
SHOW = """
from dspex_nb.widgets import LiveView
html, text = view_samples.all_views()[{name!r}]
view = LiveView(lambda: html, lambda: text, tick_s=None).show()
"""
FIGURES = """
from IPython.display import display, publish_display_data
from dspex_nb import views as v
from dspex_nb.views.studies import plot_history
display(plot_history(view_samples.study()))
publish_display_data(v.labels_bundle(view_samples.evaluation()))
"""
LIVE = """
import threading, time
from dspex_nb.widgets import LiveView
from dspex_nb.views.markup import frame, button, details, tag
clicks, count = [], [0]
def render():
    return frame(tag("p", f"count {count[0]}", class_="count"), details("more", "inside"), button("stop", "Stop"), tag("p", f"clicks {len(clicks)}", class_="clicks"))
view = LiveView(render, lambda: f"count {count[0]}", actions={"stop": lambda: clicks.append(1)})
_ = view.show()
"""


def photograph(page, shots, name, width, theme):
    page.page.set_viewport_size({"width": width, "height": 1100})
    page.page.wait_for_timeout(150)
    for i, view in enumerate(name, start=1):
        page.scroll_to(i)
        page.output(i).screenshot(path=shots / f"{view}-{theme}-{width}.png")
        if view in {"signature", "evaluation", "study"}:
            first = page.output(i).locator("details").first
            first.evaluate("d => { d.open = true; }")
            page.output(i).screenshot(path=shots / f"{view}-open-{theme}-{width}.png")
            first.evaluate("d => { d.open = false; }")


def test_every_view_shows_in_both_themes(notebook, shots):
    page = notebook(PATH + "import view_samples", *(SHOW.format(name=name) for name in VIEWS), FIGURES)
    for i in range(len(VIEWS) + 2):
        page.run_cell(i)
    for i, name in enumerate(VIEWS, start=1):
        page.scroll_to(i)
        page.output(i).locator(".dspex-view").first.wait_for(timeout=20_000)
        assert not page.output(i).locator(".jp-RenderedText[data-mime-type*=stderr]").count(), name
    page.scroll_to(len(VIEWS) + 1)
    page.output(len(VIEWS) + 1).locator(".js-plotly-plot .main-svg").first.wait_for(timeout=20_000)
    try:
        for theme in ("Light", "Dark"):
            page.theme(f"JupyterLab {theme}")
            for width in (1400, 760):
                photograph(page, shots, [*VIEWS, "figures"], width, theme.lower())
    finally:
        page.theme("JupyterLab Light")
        page.page.set_viewport_size({"width": 1400, "height": 1100})
    wide = page.page.evaluate(
        "() => [...document.querySelectorAll('.dspex-view')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert wide == 0
    assert page.errors == []


def test_a_thread_updates_the_view_after_its_cell_ended_and_keeps_what_is_open(notebook):
    page = notebook(
        LIVE
        + "go = threading.Event()\ndef work():\n    go.wait(20)\n    for i in range(1, 6):\n        count[0] = i; view.touch(); time.sleep(0.06)\n    view.finish()\nthreading.Thread(target=work).start()",
        "go.set()",
    )
    page.run_cell(0)
    output = page.output(0)
    output.locator(".count").wait_for()
    assert output.locator(".count").inner_text() == "count 0"
    output.locator("summary").click()
    page.run_cell(1)
    page.page.wait_for_function("() => document.querySelector('.count')?.innerText === 'count 5'")
    page.page.wait_for_function(
        "() => { const o = window.jupyterapp.shell.currentWidget.content.widgets[0].model.outputs.toJSON()[0].data['text/html']; return (Array.isArray(o) ? o.join('') : o).includes('count 5'); }"
    )
    stored = page.outputs(0)
    assert len(stored) == 1
    html = "".join(stored[0]["data"]["text/html"])
    assert "count 5" in html
    assert "<button" not in html
    assert "application/vnd.jupyter.widget-view+json" in stored[0]["data"]
    page.page.wait_for_function("() => document.querySelector('.dspex-view details')?.open === true")
    assert page.outputs(1) == []
    assert page.errors == []


def test_stop_fires_while_the_kernel_is_idle(notebook):
    page = notebook(LIVE, "print(len(clicks))\nview.finish()")
    page.run_cell(0)
    page.output(0).locator("button").click()
    page.page.wait_for_function("() => document.querySelector('.clicks')?.innerText === 'clicks 1'")
    page.run_cell(1)
    assert page.outputs(1)[0]["text"].strip() == "1"
    assert page.errors == []


def test_stop_fires_while_its_own_cell_blocks(notebook):
    wait = "t0 = time.monotonic()\nwhile not clicks and time.monotonic() - t0 < 15:\n    count[0] += 1; view.touch(); time.sleep(0.05)\nview.finish()\nprint('stopped' if clicks else 'never', round(time.monotonic() - t0, 1))"
    page = notebook("1", LIVE + wait)
    page.run_cell(0)
    page.start_cell(1)
    page.output(1).locator("button").wait_for()
    page.page.wait_for_function("() => /count [1-9]/.test(document.querySelector('.count')?.innerText)")
    page.output(1).locator("button").click()
    page.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.content.widgets[1].model.outputs.toJSON().some(o => o.name === 'stdout')",
        timeout=20_000,
    )
    told = next(o["text"] for o in page.outputs(1) if o.get("name") == "stdout")
    assert told.startswith("stopped"), told
    assert page.errors == []


def test_an_action_that_raises_is_told_in_the_view(notebook):
    broken = LIVE.replace("lambda: clicks.append(1)", "lambda: 1 / 0")
    page = notebook(broken, "view.finish()")
    page.run_cell(0)
    page.output(0).locator("button").click()
    page.output(0).get_by_text("stop: ZeroDivisionError").wait_for()
    page.run_cell(1)
    assert [o["output_type"] for o in page.outputs(0)] == ["display_data"]
    assert page.errors == []


def test_what_a_model_wrote_is_no_markup(notebook):
    hostile = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>]]>\'"'
    page = notebook(
        "from dspex_nb import views as v\nfrom dspex_nb.widgets import LiveView\n"
        f"bad = {hostile!r}\ninfo = v.PredictionInfo([(bad, bad)], reason=bad)\n"
        "view = LiveView(lambda: v.prediction_html(info), lambda: bad, tick_s=None).show(); view.finish()"
    )
    page.run_cell(0)
    page.output(0).locator(".dspex-view td").wait_for()
    page.page.wait_for_timeout(200)
    assert page.page.evaluate("() => window.hacked === undefined")
    assert page.output(0).locator("td").inner_text() == hostile
    assert page.errors == []


def test_an_untrusted_notebook_shows_the_still_view(notebook, shots, tmp_path):
    """A fresh clone: no kernel has run, nothing is trusted, the widget's model is unknown."""
    import sys

    sys.path.insert(0, HERE)
    import view_samples

    from dspex_nb.widgets import bundle

    cells = []
    for name, (html, text) in view_samples.all_views().items():
        if name in ("run_failed", "evaluation", "study_done", "signature"):
            data = bundle(
                html,
                text,
                {"application/vnd.jupyter.widget-view+json": {"model_id": "0" * 32, "version_major": 2, "version_minor": 0}},
            )
            cells.append(
                nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data)], execution_count=1)
            )
    path = tmp_path / "clone.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps(nbformat.v4.new_notebook(cells=cells, metadata=kernel)))
    page = notebook(path=path)
    for i in range(len(cells)):
        page.scroll_to(i)
        page.output(i).locator(".dspex-view, .jp-RenderedHTML table").first.wait_for(timeout=20_000)
        page.output(i).screenshot(path=shots / f"untrusted-{i}.png")
    assert (
        page.output(2).locator("img[src^='data:image/svg']").count()
        + page.output(1).locator("img[src^='data:image/svg']").count()
        >= 1
    )
    assert page.page.locator(".jp-OutputArea button[data-dspex-action]").count() == 0
