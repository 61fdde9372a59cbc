from __future__ import annotations

import base64
import io
import json
import struct
import wave
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb import decoding
from dspex_nb.errors import DataError
from dspex_nb.signatures.media import MOST_PIXELS, Medium, medium_of, sniffed
from dspex_nb.signatures.pixels import size_of
from dspex_nb.testing import ScriptedLM

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"


def png(width=2, height=2, colour=(255, 0, 0), said=None):
    """A PNG written by hand."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", *(said or (width, height)), 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(samples=8, rate=8000):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\0\0" * samples)
    return out.getvalue()


def gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def url(data, mime):
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def parts(lm, call=-1):
    """The content parts that are no text, of the last message the model was sent."""
    content = lm.requests[call].messages[-1]["content"]
    return [part for part in content if part["type"] != "text"] if isinstance(content, list) else []


# What a user may give


@pytest.mark.parametrize("form", ["path", "text", "bytes", "data", "memory", "upload", "uploads", "widget", "dataset"])
def test_an_image_in_every_form(form, tmp_path):
    (tmp_path / "cat.png").write_bytes(png())
    upload = {"name": "cat.png", "type": "image/png", "content": memoryview(png()), "size": 9}

    class Widget:
        comm, value = None, (upload,)

    given = {
        "path": tmp_path / "cat.png", "text": str(tmp_path / "cat.png"), "bytes": png(), "data": url(png(), "image/png"),
        "memory": memoryview(png()), "upload": upload, "uploads": (upload,), "widget": Widget(),
        "dataset": {"bytes": png(), "path": "x/cat.png"},
    }[form]  # fmt: skip
    found = medium_of(given, "image")
    assert (found.kind, found.mime, found.data) == ("image", "image/png", png())
    assert dx.image(given).url == url(png(), "image/png")


@pytest.mark.parametrize(
    ("given", "kind", "message", "hint"),
    [
        (b"", "image", "empty", "widget"), ((), "image", "empty", "something is chosen"), (b"hello there", "image", "is no image", "models read"),
        (png()[:-20], "image", "did not come whole", "again"), (b"%PDF-1.4", "image", "application/pdf", "models read"),
        (PDF[:-5], "file", "did not come whole", "again"), (png(), "audio", "is no audio", "mpeg"), (3, "image", "cannot make an image of a int", "dx.image"),
        ("data:image/png;base64,@@", "image", "no base64", "b64encode"), ("/no/such.png", "image", "No such file", "check the path"),
        (wav(800)[:-200], "audio", "did not come whole", "again"), (png(said=(60_000, 60_000)), "image", "60000 by 60000 pixels", "smaller"),
        (gif(60_000, 60_000), "image", "60000 by 60000 pixels", "smaller"), ("", "image", "empty text is no path", "dx.image"),
        (({"content": png()}, {"content": png()}), "image", "an upload of 2 files", "value[0]"),
        ((np.zeros((2, 900)), 8000), "audio", "900 channels", "samples.T"), ((np.full(9, np.nan), 8000), "audio", "from nan", "-1 to 1"),
        ((np.full(9, 3e4), 8000), "audio", "from 30000", "16-bit"),
        (np.zeros((2, 2, 2, 2)), "audio", "cannot make an audio", "dx.audio"), (("x", 16000), "audio", "cannot make a sound", "(samples, 16000)"),
    ],
)  # fmt: skip
def test_what_is_refused(given, kind, message, hint):
    with pytest.raises(DataError) as caught:
        medium_of(given, kind)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_sound_that_was_recorded_without_knowing_its_length():
    endless = b"RIFF\xff\xff\xff\xffWAVE" + wav()[12:]
    assert medium_of(endless, "audio").data == endless
    assert medium_of((np.full(9, 1.01), 8000), "audio").data


def test_the_size_in_an_images_head():
    pil = pytest.importorskip("PIL.Image")
    for form in ("PNG", "GIF", "JPEG", "WEBP"):
        for mode in ("RGB", "RGBA", "L"):
            if (form, mode) != ("JPEG", "RGBA"):
                out = io.BytesIO()
                pil.new(mode, (321, 123)).save(out, form)
                assert size_of(out.getvalue()) in {(321, 123), None}
                assert (form == "WEBP") or size_of(out.getvalue())
                assert size_of(out.getvalue()[:8]) is None
    for broken in (b"", b"\xff\xd8", b"\xff\xd8" + b"\xff" * 5000, b"\xff\xd8\xff\xe0\x00\x00" * 2000, b"\xff\xd8nothing"):
        assert size_of(broken) is None
    assert MOST_PIXELS == decoding.MOST_PIXELS


def test_limits(tmp_path):
    file = tmp_path / "big.png"
    file.write_bytes(png() + b"\0" * 100)
    with pytest.raises(DataError, match=r"'big.png' is 0.0 MB; an image may have 0.0 MB"):
        medium_of(file, "image", max_bytes=50)
    with pytest.raises(DataError, match="may have"):
        medium_of(file.read_bytes(), "image", max_bytes=50)


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"), (b"GIF89a", "image/gif"), (b"RIFF\0\0\0\0WEBP", "image/webp"), (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"ID3\x03", "audio/mpeg"), (b"\xff\xfb\x90", "audio/mpeg"), (b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"),
        (b"\0\0\0\x18ftypM4A ", "audio/mp4"), (b"\0\0\0\x18ftypheic", "image/heic"), (b"plain", ""), (b"", ""),
    ],
)  # fmt: skip
def test_kinds_are_told_by_their_bytes(head, mime):
    assert sniffed(head) == mime


def test_sounds():
    samples = np.sin(np.linspace(0, 40, 400))
    found = dx.audio(samples, rate=8000)
    assert found.audio_format == "wav"
    with wave.open(io.BytesIO(base64.b64decode(found.data))) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (400, 8000, 1)
    assert dx.audio(wav()).data == base64.b64encode(wav()).decode()
    assert dx.audio(b"ID3\x03more").audio_format == "mp3"
    stereo = medium_of((np.zeros((5, 2), np.int16), 16000), "audio")
    with wave.open(io.BytesIO(stereo.data)) as file:
        assert file.getnchannels() == 2


def test_files(tmp_path):
    (tmp_path / "paper.pdf").write_bytes(PDF)
    found = dx.file(tmp_path / "paper.pdf")
    assert (found.filename, found.file_data) == ("paper.pdf", url(PDF, "application/pdf"))
    assert dx.file(b"a,b\n1,2", name="t.csv").filename == "t.csv"


# In signatures and pipelines


ANSWER = json.dumps({"animal": "cat"})


@pytest.fixture
def lm():
    return ScriptedLM([ANSWER] * 20)


def test_a_predictor_takes_a_path_bytes_and_an_address(lm, tmp_path):
    (tmp_path / "cat.png").write_bytes(png())
    p = dx.Predict("picture: dspy.Image -> animal", adapter="json")
    sent = {"type": "image_url", "image_url": {"url": url(png(), "image/png")}}
    with dx.context(lm=lm, cache=None):
        for given in (str(tmp_path / "cat.png"), tmp_path / "cat.png", png(), dx.image(png())):
            assert p(picture=given).animal == "cat"
            assert parts(lm) == [sent]
        p(picture="https://example.com/cat.png")
        assert parts(lm) == [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]
        assert p.messages(picture=tmp_path / "cat.png")[-1]["content"][1] == sent
        with pytest.raises(DataError, match=r"picture: 'nothing.png'"):
            p(picture="nothing.png")
        frame = pd.DataFrame({"picture": [str(tmp_path / "cat.png"), png(2, 2, (0, 255, 0)), "missing.png"]})
        found = p.map(frame)
        assert found["animal"].tolist()[:2] == ["cat", "cat"]
        assert "missing.png" in found["error"][2]


def test_lists_sounds_and_files(lm):
    p = dx.Predict("pictures: list[dspy.Image], sound: Optional[dspy.Audio], paper: dspy.File -> animal", adapter="json")
    with dx.context(lm=lm, cache=None):
        p(pictures=[png(), png(3, 3)], sound=wav(), paper=PDF)
        kinds = [part["type"] for part in parts(lm)]
        assert kinds == ["image_url", "image_url", "input_audio", "file"]
        assert parts(lm)[2]["input_audio"] == {"data": base64.b64encode(wav()).decode(), "format": "wav"}
        p(pictures=[png()], sound=None, paper=PDF)
        assert [part["type"] for part in parts(lm)] == ["image_url", "file"]


def test_a_list_takes_an_upload_of_several_or_one_alone(lm):
    """Before, a widget or bytes went to the model as text."""

    class Upload:
        comm, value = None, ({"name": "a.png", "content": png()}, {"name": "b.png", "content": png(3, 3)})

    p = dx.Predict("pictures: list[dspy.Image] -> animal", adapter="json")
    with dx.context(lm=lm, cache=None):
        for given, count in ((Upload(), 2), (Upload.value, 2), (png(), 1), ((png(), png()), 2)):
            p(pictures=given)
            assert [part["type"] for part in parts(lm)] == ["image_url"] * count
        with pytest.raises(DataError, match="pictures: cannot make an image of an array"):
            p(pictures=np.zeros((3, 5, 6, 3), np.uint8))
        p(pictures=[])
        assert parts(lm) == []


def test_the_same_parts_as_plain_dspy(lm):
    import dspy

    signature = dx.Signature("picture: dspy.Image, sound: dspy.Audio, paper: dspy.File -> animal")
    given = {"picture": dx.image(png()), "sound": dx.audio(wav()), "paper": dx.file(PDF, name="p.pdf")}
    ours = dx.Predict(signature, adapter="chat").messages(**given)
    theirs = dspy.ChatAdapter().format(signature.dspy, [], given)
    assert ours == theirs


def test_a_pipeline_takes_them_and_a_model_cannot_name_a_file(lm, tmp_path):
    (tmp_path / "cat.png").write_bytes(png())
    import dspy

    look = dx.Predict("picture: dspy.Image -> animal", adapter="json")
    pipe = dx.Pipeline("look", inputs={"picture": dspy.Image}, seen=look)
    with dx.context(lm=lm, cache=None):
        assert pipe(picture=str(tmp_path / "cat.png")).animal == "cat"
        assert parts(lm)[0]["image_url"]["url"] == url(png(), "image/png")
        # A text that comes from a step, as a model may have written it, is never read as a path.
        named = ScriptedLM([json.dumps({"picture": str(tmp_path / "cat.png")}), ANSWER])
        step = dx.Predict("question -> picture", adapter="json")
        chained = dx.Pipeline("chained", naming=step, seen=look)
        with dx.context(lm=named), pytest.raises(dx.DSPexError, match="not read as a path"):
            chained(question="which?")
        assert len(named.requests) == 1
        # The same through DSPy's engine.
        deep = dx.Pipeline(
            "deep",
            inputs={"picture": dspy.Image},
            seen=dx.predict("picture: dspy.Image -> animal", engine="dspy", adapter="json"),
        )
        deep(picture=tmp_path / "cat.png")
        assert parts(lm)[0]["image_url"]["url"] == url(png(), "image/png")


# Decoding, in the pool


def test_arrays_pil_and_other_formats_are_decoded_in_the_pool(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :, 1] = 204

    def opened(found):
        return image.open(io.BytesIO(base64.b64decode(found.url.partition(",")[2])))

    for given in (pixels, pixels / 255.0, image.fromarray(pixels), image.fromarray(pixels).convert("P")):
        made = opened(dx.image(given))
        assert made.size == (60, 40)
        assert made.convert("RGB").getpixel((5, 5)) == (0, 204, 0)
    assert opened(dx.image(pixels, max_px=30)).size == (30, 20)
    image.fromarray(pixels).save(tmp_path / "x.bmp")
    assert opened(dx.image(tmp_path / "x.bmp")).format == "PNG"
    image.fromarray(pixels).save(tmp_path / "x.jpg")
    small = dx.image(tmp_path / "x.jpg", max_px=20)
    assert small.url.startswith("data:image/jpeg")
    assert max(opened(small).size) == 20
    assert dx.pool("multimodal").stats().done >= 5
    broken = bytearray((tmp_path / "x.bmp").read_bytes()[:200])
    with pytest.raises(DataError, match=r"damaged|no image"):
        dx.image(bytes(broken))
    with pytest.raises(DataError, match="array of shape"):
        dx.image(np.zeros((2, 2, 7)))
    with pytest.raises(DataError, match="go from -1"):
        dx.image(np.full((2, 2), -1.0))
    with pytest.raises(DataError, match="max_px=0"):
        dx.image(pixels, max_px=0)


def test_a_field_takes_arrays_pil_and_other_formats_and_the_pool_decodes_them(lm, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((4, 6, 3), np.uint8)
    picture = image.fromarray(pixels)
    picture.save(tmp_path / "x.bmp")
    p = dx.Predict("picture: dspy.Image -> animal", adapter="json")
    many = dx.Predict("pictures: list[dspy.Image] -> animal", adapter="json")
    pipe = dx.Pipeline("look", taken=dx.native(lambda: picture, "-> picture"), seen=p)
    before = dx.pool("multimodal").stats().done
    with dx.context(lm=lm, cache=None):
        for given in (pixels, picture, tmp_path / "x.bmp", (tmp_path / "x.bmp").read_bytes()):
            assert p(picture=given).animal == "cat"
            assert parts(lm)[0]["image_url"]["url"].startswith("data:image/png;base64,")
        many(pictures=[pixels, picture])
        assert len(parts(lm)) == 2
        found = p.map(pd.DataFrame({"picture": [pixels, picture, np.full((2, 2), -1.0)]}))
        assert found["animal"].tolist()[:2] == ["cat", "cat"]
        assert "go from -1" in found["error"][2]
        assert pipe().animal == "cat"
        assert parts(lm)[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert dx.pool("multimodal").stats().done > before
    broken = (tmp_path / "x.bmp").read_bytes()[:40]
    with pytest.raises(DataError, match=r"picture: .*(damaged|no image)"):
        p.messages(picture=broken)
    with pytest.raises(DataError, match="cannot make an audio") as caught:
        dx.Predict("sound: dspy.Audio -> animal").messages(sound=np.zeros(9))
    assert "(samples, 16000)" in caught.value.hint


def test_a_medium_as_a_cells_value_is_shown():
    from dspex_nb.testing import TestingShell

    with TestingShell() as shell:
        shown = [shell.shell.display_formatter.format(one)[0].get("text/html", "") for one in (dx.image(png()), dx.audio(wav()))]
    assert "<img" in shown[0]
    assert "<audio" in shown[1]


def test_too_many_pixels():
    pytest.importorskip("PIL.Image")
    from dspex_nb.decoding import rewritten

    with pytest.raises(DataError, match="pixels"):
        rewritten(png(said=(60_000, 60_000)))


def test_a_medium_is_plain():
    assert Medium("image", "image/png", b"x").data_url == "data:image/png;base64,eA=="
    assert isinstance(medium_of(Path(__file__), "file"), Medium)


@pytest.mark.parametrize("as_parts", [True, False], ids=["parts", "within a text"])
def test_a_cell_shows_a_prompt_without_the_bytes_of_its_files(fresh, as_parts):
    from IPython.lib.pretty import pretty

    asked = "What is to be seen? " * 100
    noise = np.random.default_rng(1).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    prompt = dx.Predict("picture: dspy.Image, asked: str -> answer").messages(picture=noise, asked=asked)
    url = next(part["image_url"]["url"] for part in prompt[-1]["content"] if part["type"] == "image_url")
    if not as_parts:  # as an adapter writes them that sends one text
        prompt[-1]["content"] = "\n".join(str(part) for part in prompt[-1]["content"])
    shown = pretty(prompt)
    assert url[:40] in shown
    assert len(shown) < len(url)
    assert url not in shown
    assert "What is to be seen? " * 90 in shown
