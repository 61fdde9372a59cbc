from __future__ import annotations

import base64
import io

import pytest

from dspex_nb.decoding import thumbnail
from dspex_nb.predictions import Facts, Prediction
from dspex_nb.views import ExampleInfo, ExampleTable, media_views, prediction_html, prediction_text
from dspex_nb.views.formats import value_text
from dspex_nb.views.media_info import media_info, part_text
from dspex_nb.views.media_views import MOST_BYTES, media_html
from dspex_nb.views.signature_cards import message_text

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


def values():
    import dspy

    data = base64.b64encode(PNG).decode()
    return {
        "picture": dspy.Image(url=f"data:image/png;base64,{data}"),
        "sound": dspy.Audio(data=base64.b64encode(b"RIFF....WAVE").decode(), audio_format="wav"),
        "paper": dspy.File(file_data="data:application/pdf;base64,JVBERi0=", filename="<b>p</b>.pdf"),
        "far": dspy.Image(url="https://tracker.example/x.png?who=me"),
    }


def test_a_prediction_shows_thumbnails_players_and_labels():
    given = values()
    html = prediction_html(Prediction({"answer": "cat"}, Facts(fields={**given, "many": [given["picture"]] * 2})))
    assert html.count("data:image/png;base64,") == 3
    assert "<audio " in html
    assert "&lt;b&gt;p&lt;/b&gt;.pdf" in html
    # An address is told, never loaded: a model may have written it to learn who looks.
    assert 'src="https' not in html
    assert "tracker.example" in html
    text = prediction_text(Prediction(given, Facts()))
    assert "image/png, 1 kB" in text
    assert "iVBOR" not in text


def test_large_media_stay_small_in_the_notebook():
    image = pytest.importorskip("PIL.Image")
    import dspy
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    out = io.BytesIO()
    image.fromarray(noise).save(out, "PNG")
    picture = dspy.Image(url=f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}")
    assert len(out.getvalue()) > 1_000_000
    html = media_html(picture)
    assert "data:image/jpeg;base64," in html
    assert len(html) < MOST_BYTES * 1.5
    broken = dspy.Image(url=f"data:image/png;base64,{base64.b64encode(PNG[:30] + b'0' * 50_000).decode()}")
    assert "<img" not in media_html(broken)
    long = dspy.Audio(data="A" * 200_000, audio_format="wav")
    assert "not kept in the notebook" in media_html(long)
    assert "<audio" not in media_html(long)


def test_bytes_that_were_given_are_media_too():
    """A column of a table often holds them: as text they would be four times as long."""
    large = PNG[:-12] + b"\0" * 3_000_000 + PNG[-12:]
    rows = [ExampleInfo(at, {"picture": PNG if at % 2 else large}, got={"answer": "cat"}) for at in range(20)]
    html = str(ExampleTable((), rows).html())
    assert html.count('src="data:image/png') == 10
    assert len(html) < 100_000
    assert "image/png, 3,000 kB" in html
    assert value_text({"given": large}) == '{"given": "image/png, 3,000 kB"}'
    assert value_text(bytes(5000)) == "bytes, 5 kB"
    assert value_text(b"few") == "\"b'few'\""
    assert media_html(b"RIFF....WAVE").count("<audio") == 1


def test_a_thumbnail_is_made_once(monkeypatch):
    image = pytest.importorskip("PIL.Image")
    made = []
    monkeypatch.setattr(media_views, "_makers", [lambda raws: [made.append(one) or thumbnail(one, 50) for one in raws]])
    out = io.BytesIO()
    image.effect_noise((400, 400), 77).save(out, "PNG")
    assert media_html(out.getvalue()) == media_html(out.getvalue())
    assert len(made) == 1


def test_what_is_no_medium():
    assert media_html("text") is None
    assert media_html([]) is None
    assert media_html([values()["picture"], "text"]) is None
    assert media_info(3) is None


def test_a_prompt_names_its_media():
    parts = [
        {"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}, {"type": "odd"},
    ]  # fmt: skip
    text = message_text({"role": "user", "content": parts})
    assert text.split("\n") == [
        "Look:", "[image/png, 1 kB]", "[image at https://x.org/a.png]", "[audio/wav, 1 kB]", "[a.pdf (application/pdf), 1 kB]", "[odd]",
    ]  # fmt: skip
    assert part_text("plain") == "plain"


def test_a_type_that_is_no_image_is_never_drawn():
    import dspy

    svg = dspy.Image(url="data:image/svg+xml;base64,PHN2Zz4=")
    assert "<img" not in media_html(svg)
