"""■ on a pipeline in a real JupyterLab: the cell is back within a second, whatever its step is doing, and nothing runs on."""

from __future__ import annotations

import socket
import time

import pytest

pytestmark = pytest.mark.timeout(180)

# A listener that accepts nothing is a server that hangs: the kernel's connect succeeds and no answer ever comes.
SETUP = """%load_ext dspex_nb
import time, multiprocessing, psutil
import dspex_nb as dx
dx.configure(lm=dx.LM('openai/silent', api_base='http://127.0.0.1:{port}/v1', api_key='none', cache=False, num_retries=0))
def slow(x: int) -> int:
    time.sleep(60)
    return x
def burning(x: int) -> int:
    while True:
        x += 1
dx.pool('burners', size=1, backend='loky').submit(abs, -1).result()  # its worker is up
inline = dx.Pipeline('inline', a=dx.native(slow))
pooled = dx.Pipeline('pooled', a=dx.native(burning, pool='burners'))
asking = dx.Pipeline('asking', a=dx.predict('x: int -> y'))"""
CELLS = ["inline(x=1)", "pooled(x=1)", "asking(x=1)", "pooled.run(x=1).result()"]


def interrupt(page):
    page.page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")


def test_interrupt_returns_the_cell_whatever_the_step_does(notebook):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        page = notebook(
            SETUP.format(port=silent.getsockname()[1]),
            *CELLS,
            "time.sleep(1)\nused = [p.cpu_percent(0.3) for p in psutil.Process().children(recursive=True)]\n"
            "print('busy:', sum(one > 50 for one in used), 'next:', dx.pool('burners').submit(abs, -7).result(20))",
        )
        page.run_cell(0)
        assert not [o for o in page.outputs(0) if o["output_type"] == "error"]
        for index, source in enumerate(CELLS, 1):
            page.start_cell(index)
            page.page.wait_for_timeout(1200)
            pressed = time.monotonic()
            interrupt(page)
            while (
                page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status") != "idle"
            ):
                assert time.monotonic() - pressed < 10, source
                page.page.wait_for_timeout(20)
            took = time.monotonic() - pressed
            errors = [o for o in page.outputs(index) if o["output_type"] == "error"]
            assert [one["ename"] for one in errors] == ["Cancelled"], source
            assert took < 1.5, f"{source}: ■ took {took:.2f} s"
        page.run_cell(len(CELLS) + 1)
        assert "busy: 0 next: 7" in page.output(len(CELLS) + 1).inner_text()
