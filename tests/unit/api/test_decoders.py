"""Hostile and heavy files are decoded in the `multimodal` pool: what they break there is a worker, and a display goes on."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

import dspex_nb as dx
from dspex_nb.api import decoders
from dspex_nb.errors import DataError, PoolError
from dspex_nb.retrieval import reading
from dspex_nb.views import media_views
from dspex_nb.views.media_views import MOST_BYTES, media_html


def photo(width, height, form="PNG"):
    """An image that does not compress well, as photographs do not."""
    pixels = np.random.default_rng(7).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def bomb(side):
    """A real PNG of many black pixels in few bytes."""
    import struct

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, row, rows = zlib.compressobj(9), b"\0" * (1 + side * 3), []
    rows = [packer.compress(row) for _ in range(side)] + [packer.flush()]
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"".join(rows)) + chunk(b"IEND", b"")


def pdf(text):
    """A PDF of one page, written by hand."""
    stream = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream), b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]  # fmt: skip
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%s endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (table, len(out))


def shown(*images, mime="image/png"):
    import dspy

    return str(media_html([dspy.Image(url=f"data:{mime};base64,{base64.b64encode(one).decode()}") for one in images]))


def previews(html):
    found = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(one))).size for one in found]


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def asleep(*_):
    time.sleep(60)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(decoders, "_not_before", 0.0)
    monkeypatch.setattr(media_views, "_made", {})
    yield
    dx.session().pools.close()


@pytest.fixture
def nothing_here(monkeypatch):
    """Makes decoding in this process an error."""

    def load(self):
        raise AssertionError("decoded in this process")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


class TestThumbnails:
    def test_large_ones_are_made_in_the_pool(self, nothing_here):
        assert previews(shown(photo(900, 600), photo(300, 500))) == [(240, 160), (144, 240)]

    def test_webp_is_made_in_the_pool_whatever_its_size(self, nothing_here):
        assert previews(shown(photo(200, 150, "WEBP"), mime="image/webp")) == [(200, 150)]

    def test_small_ones_start_no_process(self):
        assert previews(shown(photo(200, 150))) == [(200, 150)]
        assert shown(photo(20, 20)).count("data:image/png") == 1
        assert "multimodal" not in dx.session().pools.names()

    def test_bombs_and_damaged_files_are_told_and_the_others_shown(self):
        whole = photo(400, 400)
        html = shown(bomb(10_500), whole[:30_000] + b"\0" * 60_000 + whole[-12:], b"no image" * 9_000, whole)
        assert "no thumbnail: the image has 10500 by 10500 pixels, more than 100 million" in html
        assert "no thumbnail: the image is damaged" in html
        assert "no thumbnail: no image that can be read" in html
        assert previews(html) == [(240, 240)]
        assert len(html) < 4 * MOST_BYTES

    def test_one_that_fills_the_memory_ends_its_worker_only(self):
        dx.pool("multimodal", 1, memory_bytes=220_000_000)
        assert "no thumbnail: decoding the image took too much memory" in shown(bomb(9_900))
        assert previews(shown(photo(400, 400))) == [(240, 240)]

    def test_one_that_kills_or_holds_up_its_decoder(self, monkeypatch):
        assert previews(shown(photo(300, 400))) == [(180, 240)]
        with monkeypatch.context() as inside:
            inside.setattr(decoders, "thumbnail", killed)
            assert "no thumbnail: the image broke what decodes it: its process ended" in shown(photo(400, 400))
            inside.setattr(decoders, "thumbnail", asleep)
            inside.setattr(decoders, "_SHOWN_S", 0.5)
            assert "no thumbnail: " in shown(photo(400, 400))
        assert previews(shown(photo(400, 400))) == [(240, 240)]

    def test_a_pool_that_cannot_start_is_told(self, tmp_path):
        dx.pool("multimodal", 1, "loky", python=str(tmp_path / "no-python"))
        html = shown(photo(400, 400))
        assert "no thumbnail: pool &#x27;multimodal&#x27;: its worker cannot be started" in html
        assert "image/png" in html

    def test_a_pool_that_does_not_answer_is_waited_for_once(self, tmp_path, monkeypatch):
        never = tmp_path / "python"
        never.write_text("#!/bin/sh\nexec sleep 600\n")
        never.chmod(0o755)
        dx.pool("multimodal", 1, "loky", python=str(never))
        monkeypatch.setattr(decoders, "_SHOWN_S", 0.5)
        assert shown(photo(400, 400), photo(300, 300)).count("no thumbnail: ") == 2
        assert "no thumbnail: the multimodal pool does not answer" in shown(photo(400, 400))


class TestImages:
    def test_a_pil_image_of_which_only_the_head_was_read_is_decoded_in_the_pool(self, tmp_path, nothing_here):
        (tmp_path / "photo.bmp").write_bytes(photo(300, 200, "BMP"))
        with Image.open(tmp_path / "photo.bmp") as opened:
            url = dx.image(opened).url
            assert opened.size == (300, 200)
        assert url.startswith("data:image/png")

    def test_one_that_was_changed_is_sent_as_it_is_now(self, tmp_path):
        (tmp_path / "photo.bmp").write_bytes(photo(300, 200, "BMP"))
        with Image.open(tmp_path / "photo.bmp") as opened:
            opened.thumbnail((30, 30))
            url = dx.image(opened).url
        assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (30, 20)

    def test_a_decoder_that_dies_or_hangs_is_the_files_fault(self):
        with pytest.raises(DataError, match="the scan broke what decodes it") as told:
            decoders.decode_apart(killed, what="the scan")
        assert "save it again" in told.value.hint
        with pytest.raises(DataError, match="decoding the scan took too long"):
            decoders.decode_apart(asleep, what="the scan", timeout_s=0.5)
        assert decoders.decode_apart(len, b"four") == 4

    def test_a_pool_that_cannot_start_is_not(self, tmp_path):
        dx.pool("multimodal", 1, "loky", python=str(tmp_path / "no-python"))
        with pytest.raises(PoolError, match="cannot be started"):
            dx.image(np.zeros((4, 4), dtype=np.uint8))


class TestPdf:
    def test_pages_are_read_in_the_pool(self, tmp_path, monkeypatch):
        import pypdf

        (tmp_path / "one.pdf").write_bytes(pdf("Hello pool"))
        monkeypatch.setattr(pypdf, "PdfReader", None)  # here
        (found,) = dx.load_documents(tmp_path / "one.pdf")
        assert found.text == "Hello pool"
        assert found.metadata["page"] == 1

    def test_one_that_kills_its_reader_is_told_and_the_others_read(self, tmp_path, monkeypatch):
        (tmp_path / "a.pdf").write_bytes(pdf("never read"))
        (tmp_path / "b.md").write_text("# Fine\n\ntext")
        monkeypatch.setitem(reading.READERS, "pdf", killed)
        found = dx.load_documents(tmp_path)
        assert [one.title for one in found.documents] == ["Fine"]
        assert found.errors[0].message == "it broke what decodes it: its process ended"

    def test_a_damaged_one_is_told_as_before(self, tmp_path):
        (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4\nnonsense")
        with pytest.raises(DataError, match="it is no PDF that can be read"):
            dx.load_documents(tmp_path / "bad.pdf")

    def test_without_a_pool_it_is_read_here_with_a_warning(self, tmp_path):
        (tmp_path / "one.pdf").write_bytes(pdf("Hello kernel"))
        dx.pool("multimodal", 1, "loky", python=str(tmp_path / "no-python"))
        with pytest.warns(RuntimeWarning, match="a PDF is read in this process: pool 'multimodal'"):
            (found,) = dx.load_documents(tmp_path / "one.pdf")
        assert found.text == "Hello kernel"
