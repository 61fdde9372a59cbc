"""The quickstart and its two stops, in a real JupyterLab in Chromium, on the embedded model."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]
QUICKSTART = Path(__file__).parents[2] / "notebooks" / "01_quickstart.ipynb"
SETUP = """%load_ext dspex_nb
%dspex lm local
import dspex_nb as dx
triage = dx.Predict("message: str -> desk: Literal['payment', 'problem', 'purchase']")
rows = dx.datasets.support_messages()"""


def code_cells(page):
    return page.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.map((w, i) => [i, w.model.type]).filter(x => x[1] === 'code').map(x => x[0])"
    )


def sources(page):
    return page.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.map(w => w.model.sharedModel.getSource())"
    )


def test_all_cells_run_and_views_change_while_they_do(notebook, shots):
    page = notebook(path=QUICKSTART)
    texts = sources(page)
    seen: dict[int, set[str]] = {}
    for index in code_cells(page):
        page.start_cell(index)
        watched = seen.setdefault(index, set())
        deadline = time.monotonic() + 600
        while True:
            watched.add(page.output(index).inner_text()[:4000] if page.output(index).count() else "")
            state = page.page.evaluate(
                "(i) => { const p = window.jupyterapp.shell.currentWidget; return [p.content.widgets[i].model.executionCount, p.sessionContext.session.kernel.status]; }",
                index,
            )
            if state[0] and state[1] == "idle":
                break
            assert time.monotonic() < deadline, texts[index]
            page.page.wait_for_timeout(100)
        assert not [o for o in page.outputs(index) if o["output_type"] == "error"], texts[index]
        page.scroll_to(index)
        page.page.wait_for_timeout(300)
        page.page.screenshot(path=shots / f"quickstart-{index:02d}.png")
    optimize = next(i for i, text in enumerate(texts) if "study = %optimize" in text)
    page.scroll_to(optimize)  # Lab takes cells that are out of sight out of the page
    page.page.wait_for_timeout(500)
    ended = page.output(optimize).inner_text()
    page.page.screenshot(path=shots / "quickstart-study-ended.png")
    assert "done" in ended
    assert ended not in seen[optimize], "the study's view did not change after its cell had returned"
    assert page.output(optimize).locator(".js-plotly-plot").count() == 1
    assert page.errors == []


def test_stop_ends_a_study_and_keeps_its_best(notebook, shots):
    page = notebook(
        SETUP,
        "study = dx.optimize(triage, 'BootstrapFewShotWithRandomSearch', metric='exact_match:desk', trainset=rows[:40],"
        " valset=[dx.Example({**row, 'message': row.message + ' (again)'}, ['message']) for row in rows],"
        " num_candidate_programs=10)\nstudy.show()",
        "print(study.status, study.best_state is not None, study.result.trials)",
    )
    page.run_cell(0)
    page.run_cell(1)
    view = page.output(1)
    view.get_by_text("running").first.wait_for(timeout=60_000)
    first = view.inner_text()
    page.page.wait_for_function(
        "([i, old]) => document.querySelectorAll('.jp-Notebook .jp-Cell')[i].innerText !== old", arg=[1, first], timeout=60_000
    )
    page.page.wait_for_timeout(4000)
    page.page.screenshot(path=shots / "study-live.png")
    view.locator("[data-dspex-action=stop]").click()
    started = time.monotonic()
    view.get_by_text("stopped").or_(view.get_by_text("cancelled")).first.wait_for(timeout=10_000)
    assert time.monotonic() - started < 8
    page.run_cell(2)
    assert "stopped True" in page.output(2).inner_text()
    page.page.screenshot(path=shots / "study-stopped.png")
    assert page.errors == []


def interrupt(page):
    page.page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")


def wait_idle(page, timeout_s):
    started = time.monotonic()
    while page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status") != "idle":
        assert time.monotonic() - started < timeout_s, "the kernel is still busy"
        page.page.wait_for_timeout(20)
    return time.monotonic() - started


def test_interrupt_stops_a_map_within_a_second_and_nothing_runs_on(notebook, shots):
    page = notebook(
        SETUP + "\nfresh = [{'message': f'{row.message} Case {i}.'} for i, row in enumerate(rows)]",
        "%%pipeline sorting --quiet\nmessage: str\nsorted_ = predict(\"message -> desk: Literal['payment', 'problem', 'purchase']\")",
        "sorting.map(fresh)",
        "import time\nbefore = dx.session().ledger.calls\ntime.sleep(2.5)\nprint('ran on:', dx.session().ledger.calls - before, 'answered:', before > 0)",
    )
    page.run_cell(0)
    page.run_cell(1)
    page.start_cell(2)
    page.page.wait_for_timeout(4000)
    page.page.screenshot(path=shots / "map-live.png")
    interrupt(page)
    took = wait_idle(page, 5)
    assert took < 1.0, f"■ took {took:.2f} s"
    errors = [o for o in page.outputs(2) if o["output_type"] == "error"]
    assert errors
    assert errors[0]["ename"] == "Cancelled"
    assert len(errors[0]["traceback"]) <= 4
    page.run_cell(3)
    assert "ran on: 0 answered: True" in page.output(3).inner_text()
    page.page.screenshot(path=shots / "map-interrupted.png")


class SilentServer:
    """Accepts requests and never answers; notes when the other side hangs up."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.opened, self.closed_at = 0, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.opened += 1
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection):
        with connection:
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                pass
            self.closed_at.append(time.monotonic())


def test_interrupt_closes_the_sockets_to_the_lm(notebook):
    server = SilentServer()
    page = notebook(
        f"%load_ext dspex_nb\nimport dspex_nb as dx\ndx.configure(lm=dx.LM('openai/silent', api_base='{server.url}', api_key='none', cache=False))\n"
        "ask = dx.Predict('message -> desk')",
        "ask.batch([{'message': str(i)} for i in range(100)], n_jobs=8)",
    )
    page.run_cell(0)
    page.start_cell(1)
    deadline = time.monotonic() + 20
    while server.opened < 8 and time.monotonic() < deadline:
        page.page.wait_for_timeout(100)
    assert server.opened == 8
    pressed = time.monotonic()
    interrupt(page)
    assert wait_idle(page, 5) < 1.0
    page.page.wait_for_timeout(300)
    assert len(server.closed_at) == 8
    assert max(server.closed_at) - pressed < 1.0
    assert server.opened == 8, "requests were still sent after ■"
    server.listener.close()
