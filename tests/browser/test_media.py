"""Media in a real JupyterLab: an upload, a camera, thumbnails and players, live and in an untrusted notebook."""

from __future__ import annotations

import base64

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
SETUP = """
%load_ext dspex_nb
import json, dspy, ipywidgets
import numpy as np
import dspex_nb as dx
from dspex_nb.testing import ScriptedLM
lm = ScriptedLM([json.dumps({"animal": "cat"})] * 9)
look = dx.Predict("picture: dspy.Image -> animal", adapter="json", lm=None)
upload = ipywidgets.FileUpload()
upload
"""
CAMERA = "camera = dx.webcam(width=640)\ncamera"
SEND = """
sent = []
for source in (upload, upload.value, camera):
    with dx.context(lm=lm, cache=None):
        look(picture=source)
    part = lm.requests[-1].messages[-1]["content"][1]
    sent.append(part["image_url"]["url"][:23])
print(sent, len(camera.value) > 1000)
"""
SHOW = """
pixels = np.zeros((300, 400, 3), np.uint8)
pixels[:, :, 2] = np.linspace(0, 255, 400).astype(np.uint8)
tone = np.sin(np.linspace(0, 2000, 8000)) * 0.3
pipe = dx.Pipeline("shown", inputs={"picture": dspy.Image, "sound": dspy.Audio, "paper": dspy.File}, seen=dx.native(lambda picture, sound, paper: "a cat"))
pipe(picture=dx.image(pixels), sound=dx.audio(tone, rate=8000), paper=dx.file(b"%PDF-1.4 %%EOF", name="report.pdf"))
"""


def test_an_upload_a_camera_and_what_is_shown(notebook, shots, tmp_path):
    (tmp_path / "cat.png").write_bytes(PNG)
    page = notebook(SETUP, CAMERA, SEND, SHOW)
    page.run_cell(0)
    page.run_cell(1)
    page.output(0).locator("button").wait_for(timeout=60_000)
    with page.page.expect_file_chooser() as chooser:
        page.output(0).locator("button").click()
    chooser.value.set_files(str(tmp_path / "cat.png"))
    page.output(0).get_by_text("(1)").wait_for()
    camera = page.output(1)
    camera.get_by_text("Start camera").click()
    page.page.wait_for_function("() => document.querySelector('.dspex-webcam video')?.videoWidth > 0")
    camera.get_by_text("Take picture").click()
    camera.get_by_text("kB").wait_for()
    camera.screenshot(path=shots / "webcam.png")
    page.run_cell(2)
    assert (
        page.outputs(2)[0]["text"].strip()
        == "['data:image/png;base64,i', 'data:image/png;base64,i', 'data:image/jpeg;base64,'] True"
    )
    page.run_cell(3)
    assert page.outputs(3)[-1]["output_type"] != "error", page.outputs(3)
    page.scroll_to(3)
    shown = page.output(3)
    shown.locator("summary").first.wait_for(timeout=30_000)
    shown.locator("summary").first.click()
    shown.locator("img").first.wait_for()
    assert shown.locator("img").first.evaluate("one => one.naturalWidth") in (240, 400)
    shown.screenshot(path=shots / "media.png")
    assert shown.locator("audio").count() == 1
    assert page.errors == []
