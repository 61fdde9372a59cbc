"""A study's dashboard in a real JupyterLab: a real study, its buttons pressed, the page reloaded while it goes on."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from labpage import STARTED

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import stub_server

pytestmark = pytest.mark.timeout(400)
SETUP = """import dspex_nb as dx
dx.configure(lm=dx.LM("openai/m", api_base="{url}", api_key="x", price={{"input": 1.0, "output": 2.0}}), n_jobs=4)
capital = dx.Predict("question -> answer")
rows = [{{"question": f"Question {{n}}?", "answer": "Paris" if n % 3 else "Rome"}} for n in range(12)]
study = dx.optimize(capital, "BootstrapFewShotWithRandomSearch", metric="exact_match", trainset=rows, num_candidate_programs=80)
study"""
CALLS = re.compile(r"([\d,]+) LM calls?")


def calls(view):
    found = CALLS.search(view.inner_text())
    return int(found[1].replace(",", "")) if found else 0


def wait_for(page, condition, seconds=60):
    for _ in range(seconds * 10):
        if condition():
            return
        page.page.wait_for_timeout(100)
    assert condition()


def says(view, word, seconds=60):
    view.locator(".dspex-view").get_by_text(re.compile(f"^\\s*\\S?\\s*{word}\\s*$")).first.wait_for(timeout=seconds * 1000)


def standing(page, view, seconds=2.5):
    """Return the number of calls once it has stood still for a while: those in flight at a pause end first."""
    last, since = calls(view), 0
    for _ in range(300):
        page.page.wait_for_timeout(100)
        last, since = (last, since + 0.1) if calls(view) == last else (calls(view), 0)
        if since >= seconds:
            return last
    raise AssertionError("the study goes on though it is paused")


def test_pause_reload_resume_stop_and_adopt_on_a_running_study(notebook, shots):
    with stub_server.running(delay_ms=300) as url:
        page = notebook(SETUP.format(url=url), "print(study.status, len(capital.demos) > 0 or study.result.best_score)")
        page.run_cell(0)
        view = page.output(0)
        says(view, "running")
        view.get_by_text("best so far", exact=True).first.wait_for(timeout=120_000)
        view.locator(".dspex-plot .main-svg").first.wait_for(timeout=60_000)

        view.locator("[data-dspex-action=pause]").click()
        says(view, "paused")
        held = standing(page, view)
        assert held > 0

        page.save()
        page.page.reload()
        page.page.wait_for_function("() => window.jupyterapp", timeout=60_000)
        page.page.evaluate(STARTED)
        page.open()
        view = page.output(0)
        says(view, "paused")
        view.locator(".dspex-plot .main-svg").first.wait_for(timeout=60_000)
        assert calls(view) == held

        view.locator("[data-dspex-action=resume]").click()
        says(view, "running")
        wait_for(page, lambda: calls(view) > held + 8)

        view.locator("[data-dspex-value=candidates]").click()
        view.locator("[data-dspex-action=trial]").first.click()
        view.get_by_text("LM calls", exact=True).wait_for(timeout=20_000)
        view.locator("input[data-dspex-action=filter]").fill("kind:start")
        wait_for(page, lambda: view.locator("tr[data-dspex-action=trial]").count() == 1)
        page.page.screenshot(path=shots / "dashboard-live.png")

        view.locator("[data-dspex-action=stop]").click()
        says(view, "stopped")
        view.locator("[data-dspex-action=adopt]").click()
        view.get_by_text("adopted: Predict now uses the best program").or_(view.get_by_text("adopted:")).first.wait_for(
            timeout=20_000
        )
        page.page.screenshot(path=shots / "dashboard-adopted.png")
        page.run_cell(1)
        assert page.outputs(1)[0]["text"].startswith("stopped")
        assert page.errors == []
