"""An answer grows in its cell while the embedded model writes it."""

from __future__ import annotations

import time

import pytest

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
SETUP = """%load_ext dspex_nb
%dspex lm local
import dspex_nb as dx
story = dx.Predict("topic: str -> title: str, story: str", max_tokens=120)
story(topic="a cat");"""


def test_fields_grow_in_the_cell_and_the_prediction_stays(notebook, shots):
    page = notebook(
        SETUP, "told = story.stream(topic='a lighthouse keeper and a storm')\ntold", "print(len(told.prediction.story))"
    )
    page.run_cell(0)
    page.start_cell(1)
    seen: list[str] = []
    deadline = time.monotonic() + 120
    while True:
        text = page.output(1).inner_text() if page.output(1).count() else ""
        if text and (not seen or seen[-1] != text):
            seen.append(text)
            if len(seen) == 4:
                page.page.screenshot(path=shots / "stream-growing.png")
        ended = page.page.evaluate(
            "() => { const p = window.jupyterapp.shell.currentWidget; return p.content.widgets[1].model.executionCount && p.sessionContext.session.kernel.status === 'idle'; }"
        )
        if ended:
            break
        assert time.monotonic() < deadline, seen[-1:]
        page.page.wait_for_timeout(40)
    assert len(seen) >= 4, "the answer came at once"
    page.page.wait_for_timeout(300)
    page.page.screenshot(path=shots / "stream-ended.png")
    page.run_cell(2)
    assert int(page.outputs(2)[0]["text"]) > 0
    assert page.errors == []
