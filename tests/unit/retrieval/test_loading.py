from __future__ import annotations

import contextlib
import gzip
import http.server
import itertools
import json
import os
import re
import threading

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_nb.errors import DataError, LMConnectionError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import respond
from dspex_nb.retrieval.loading import load_documents
from dspex_nb.retrieval.reading import Reading, decoded, read_html
from dspex_nb.retrieval.splitting import Splitter, word_tokens

LOREM = "The river rises in spring. Boats wait at the landing. Nobody crosses before noon. " * 12


def pdf(*pages, title=None, **more):
    """A PDF with a line of text on each page, written by hand."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Contents {len(objects)} 0 R /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    info = ""
    if title:
        objects.append(f"<< /Title ({title}) >>")
        info = f"/Info {len(objects)} 0 R "
    content, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1")
    at = len(content)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} {info}/Root 1 0 R >>\nstartxref\n{at}\n%%EOF"
    return content + end.encode()


def locked(content, password):
    import io

    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(content))
    writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "plain.txt").write_text(LOREM)
    (tmp_path / "guide.md").write_text(
        "---\nlang: en\n---\n# The guide\n\nFirst words.\n\n## Ships\n\nA ship has a keel.\n\n```\n# not a heading\n```\n\n## Oars\n\nTwo."
    )
    (tmp_path / "sub" / "page.html").write_text(
        "<html><head><title>A page</title><script>alert(1)</script></head><body><nav>menu</nav><h2>Héllo &amp; more</h2>"
        "<p>One <b>bold</b> word.</p><ul><li>first<li>second</ul><pre>x  =  1\ny</pre>"
        "<table><tr><th>a<th>b<tr><td>1<td>2</table></body></html>",
        encoding="utf-8",
    )
    (tmp_path / "report.pdf").write_bytes(pdf("Alpha comes first.", "Beta is on the second page.", title="The report"))
    (tmp_path / "rows.csv").write_text("id,text,year\n7,Apples are red,2020\n8,Pears are green,\n")
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Sums\n", "\n", "We add."]},
        {
            "cell_type": "code", "metadata": {}, "execution_count": 1, "source": "1 + 1",
            "outputs": [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": ["2"]}}],
        },
    ]  # fmt: skip
    (tmp_path / "book.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}))
    (tmp_path / "picture.bin").write_bytes(b"\0\1\2")
    (tmp_path / ".hidden.md").write_text("# secret")
    return tmp_path


def by_name(found):
    return {one.source.rsplit("/", 1)[-1]: one for one in found.documents}


def test_a_folder_of_every_kind(folder):
    seen = []
    found = load_documents(folder, on_progress=lambda event: seen.append((event.done, event.total)))
    documents = by_name(found)
    assert set(documents) == {"plain.txt", "guide.md", "page.html", "report.pdf", "rows.csv", "book.ipynb"}
    assert [name.rsplit("/", 1)[-1] for name in found.skipped] == ["picture.bin"]
    assert seen == [(done, 6) for done in range(1, 7)]
    assert not found.errors
    assert documents["guide.md"].title == "The guide"
    assert "lang: en" not in documents["guide.md"].text
    page = documents["page.html"]
    assert page.title == "A page"
    assert page.text == ("## Héllo & more\n\nOne bold word.\n\n- first\n- second\n\n```\nx  =  1\ny\n```\n\na | b\n1 | 2")
    assert documents["book.ipynb"].text == "# Sums\n\nWe add.\n\n```python\n1 + 1\n```\n\n```\n2\n```"
    # Every passage is a slice of its document, and says where it stands.
    texts = {one.key: one.text for one in found.documents}
    for one in found:
        key = one.metadata.get("document", one.source)
        assert one.text == texts[key][one.metadata["start"] : one.metadata["end"]]
        assert one.text in found.context(one)
    sections = [one.metadata.get("section") for one in found if one.source.endswith("guide.md")]
    assert sections == [None, "Ships", "Oars"]
    assert "# not a heading" in next(one.text for one in found if one.metadata.get("section") == "Ships")


def test_pages_of_a_pdf(folder):
    found = load_documents(folder / "report.pdf", chunk_tokens=8)
    assert [(one.text, one.metadata["page"]) for one in found] == [("Alpha comes first.", 1), ("Beta is on the second page.", 2)]
    assert found[0].title == "The report"
    whole = load_documents(folder / "report.pdf", chunk_tokens=None)
    assert (whole[0].metadata["page"], whole[0].metadata["page_end"]) == (1, 2)


def test_a_citation_points_at_page_and_span(folder):
    found = load_documents(folder / "report.pdf", chunk_tokens=8)
    report = respond("Beta is on the second page [2].", found)
    cited = report.citations[0]
    assert (cited.page, cited.place.rsplit("/", 1)[-1]) == (2, "report.pdf, page 2")
    assert found.documents[0].text[slice(*cited.span)] == "Beta is on the second page."
    assert "report.pdf, page 2" in report.text
    assert "page 2" in respond("Beta [2].", found, "html").text
    assert json.loads(respond("Beta [2].", found, "json").text)["citations"][0]["page"] == 2


def test_a_citation_of_a_passage_over_pages_says_all_of_them(folder):
    found = load_documents(folder / "report.pdf", chunk_tokens=None)
    cited = respond("Beta is on the second page [1].", found).citations[0]
    assert (cited.page, cited.page_end) == (1, 2)
    for form in ("markdown", "html"):
        assert "pages 1 to 2" in respond("Beta [1].", found, form).text
    assert json.loads(respond("Beta [1].", found, "json").text)["citations"][0]["page_end"] == 2


def test_tables(folder):
    found = load_documents(folder / "rows.csv")
    assert [(one.text, one.metadata["row"], one.metadata.get("year")) for one in found] == [
        ("Apples are red", 0, 2020.0), ("Pears are green", 1, None),
    ]  # fmt: skip
    assert found[0].metadata["document"].endswith("rows.csv#7")
    frame = pd.DataFrame({"name": ["Oak", "Fir"], "height": [30, 50], "title": ["T1", "T2"]})
    rows = load_documents(frame)
    assert rows[0].text == "name: Oak\nheight: 30\ntitle: T1"
    assert load_documents(frame, text_field="name")[1].text == "Fir"
    with pytest.raises(DataError, match=r"no column 'nam'(.|\n)*did you mean 'name'"):
        load_documents(frame, text_field="nam", on_error="raise")


def test_bad_files_do_not_stop_the_others(tmp_path):
    (tmp_path / "good.txt").write_text("Fine.")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (tmp_path / "empty.pdf").write_bytes(pdf(""))
    (tmp_path / "locked.pdf").write_bytes(locked(pdf("Secret words."), "open-sesame"))
    (tmp_path / "huge.txt").write_text("x" * 3000)
    (tmp_path / "bad.ipynb").write_text("{}")
    (tmp_path / "nul.txt").write_bytes(b"\0\0")
    found = load_documents(tmp_path, max_bytes=2000)
    errors = {one.source.rsplit("/", 1)[-1]: one for one in found.errors}
    assert [one.text for one in found] == ["Fine."]
    assert set(errors) == {"broken.pdf", "empty.pdf", "locked.pdf", "huge.txt", "bad.ipynb", "nul.txt"}
    assert "encrypted" in errors["locked.pdf"].message
    assert "password=" in errors["locked.pdf"].hint
    assert "pictures" in errors["empty.pdf"].message
    assert "limit" in errors["huge.txt"].message
    assert "no notebook" in errors["bad.ipynb"].message
    assert "✗" in repr(found)
    assert load_documents(tmp_path / "locked.pdf", password="open-sesame")[0].text == "Secret words."
    with pytest.raises(DataError, match="does not open it"):
        load_documents(tmp_path / "locked.pdf", password="wrong")
    with pytest.raises(DataError, match="no notebook"):
        load_documents(tmp_path, on_error="raise")


def test_places_there_are_none_of(folder):
    with pytest.raises(DataError, match=r"no file(.|\n)*did you mean 'guide.md'"):
        load_documents(folder / "giude.md")
    with pytest.raises(DataError, match="cannot load documents from a int"):
        load_documents(3)
    with pytest.raises(DataError, match="kind is not known"):
        load_documents(folder / "picture.bin")
    with pytest.raises(DataError, match="cannot split"):
        load_documents(folder, chunk_tokens=10, overlap_tokens=9)
    assert len(load_documents([folder / "guide.md", folder / "sub"], chunk_tokens=None)) == 2
    assert {one.source.rsplit(".", 1)[-1] for one in load_documents(folder, pattern="**/*.md")} == {"md"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbfhi", "hi"),
        ("hé".encode("utf-16"), "hé"),
        ("hé".encode("utf-32"), "hé"),
        ("hé".encode("cp1252"), "hé"),
        ("hé→".encode(), "hé→"),
    ],
)
def test_encodings(content, text):
    assert decoded(content) == text


def of_csv(tmp_path, text, **options):
    (tmp_path / "table.csv").write_text(text)
    return load_documents(tmp_path / "table.csv", **options)


def test_a_table_keeps_what_its_cells_say(tmp_path):
    found = of_csv(tmp_path, "id,text,zip,land,n,x,new\n001,hello,01234,NA,1,1.5,True\n002,None,99999,DE,,2,False\n")
    assert [one.text for one in found] == ["hello", "None"]
    assert [one.key.rsplit("#")[-1] for one in found.documents] == ["001", "002"]
    assert [(m["zip"], m["land"], m.get("n"), m["x"], m["new"]) for m in (one.metadata for one in found)] == [
        ("01234", "NA", 1, 1.5, True),
        ("99999", "DE", None, 2.0, False),
    ]


def test_a_table_by_other_marks(tmp_path):
    assert of_csv(tmp_path, 'text;"a,b";n\nsaid; well, it;1,5\n')[0].metadata["n"] == "1,5"
    assert of_csv(tmp_path, 'text\n"One, indeed; yes; no"\n')[0].text == "One, indeed; yes; no"
    with pytest.raises(DataError, match=r"no CSV table(.|\n)*names every column"):
        of_csv(tmp_path, "a,b\n1,2,3,4\n1\n")
    assert len(of_csv(tmp_path, "text,b\n", text_field="text")) == 0


def test_nothing_is_read_where_nothing_is_named(tmp_path):
    with pytest.raises(DataError, match="empty text is no path"):
        load_documents("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a device or a pipe"):
        load_documents(tmp_path / "pipe")


def test_a_missing_file_of_several_does_not_stop_the_others(folder):
    found = load_documents([folder / "giude.md", folder / "guide.md"])
    assert len(found.documents) == 1
    assert "no file" in found.errors[0].message
    assert "did you mean 'guide.md'" in found.errors[0].hint
    with pytest.raises(DataError, match="no file"):
        load_documents([folder / "giude.md", folder / "guide.md"], on_error="raise")


def test_half_a_character_is_replaced(tmp_path):
    cell = {"cell_type": "markdown", "metadata": {}, "source": "smile \ud83d here"}
    (tmp_path / "book.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    assert load_documents(tmp_path / "book.ipynb")[0].text == "smile ? here"


def test_html_that_is_no_page():
    assert read_html(b"just <b>text</b> & <!-- note -->more", Reading()).text == "just text & more"
    assert read_html(b"<div>" * 5000 + b"deep", Reading()).text.strip() == "deep"


class Web:
    """Pages on loopback."""

    def __init__(self, pages):
        web = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.asked.append((self.path, self.headers.get("authorization")))
                status, kind, body = pages.get(self.path, (404, "text/html", b"no"))
                self.send_response(status)
                if kind:
                    self.send_header("location" if 300 <= status < 400 else "content-type", kind)
                if self.path.endswith("packed"):
                    self.send_header("content-encoding", self.path.strip("/").rpartition("-")[0])
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self._server.shutdown()
            self._server.server_close()


@pytest.fixture
def web():
    made = Web({
        "/old": (302, "/page", b""), "/page": (200, "text/html; charset=iso-8859-1", "<p>café au lait</p>".encode("latin-1")),
        "/file": (200, "application/pdf", pdf("From the web.")), "/loop": (301, "/loop", b""),
        "/out": (302, "file:///etc/passwd", b""), "/data.csv": (200, "application/octet-stream", b"text\nrow one\n"),
        "/gzip-packed": (200, "text/html", gzip.compress(b"<p>zipped page</p>")), "/br-packed": (200, "text/html", b"??"),
        "/deflate-packed": (200, "text/plain", gzip.zlib.compress(b"deflated")[:-3]),
        "/untold": (200, "", b"<!DOCTYPE html><p>a page</p>"),
    })  # fmt: skip
    try:
        yield made
    finally:
        made.close()


def test_pages_from_the_web(web):
    address = web.url.replace("http://", "http://me:s3cret-word@")
    found = load_documents([f"{address}/old", f"{web.url}/file", f"{web.url}/data.csv", f"{web.url}/gone", f"{web.url}/loop"])
    assert [one.text for one in found] == ["café au lait", "From the web.", "row one"]
    assert found[0].source == f"{web.url}/page"
    assert any(header for path, header in web.asked if path == "/old")
    assert "s3cret" not in repr([one.as_dict() for one in found]) + repr(found)
    assert [one.message.split(" ")[1] for one in found.errors][:1] == ["answered"]
    assert "without end" in found.errors[1].message
    with pytest.raises(DataError, match="no web address"):
        load_documents(f"{web.url}/out")
    with pytest.raises(DataError, match="the limit"):
        load_documents(f"{web.url}/file", max_bytes=100)


def test_pages_that_come_packed_or_of_untold_kind(web):
    assert load_documents(f"{web.url}/gzip-packed")[0].text == "zipped page"
    assert load_documents(f"{web.url}/untold".replace("http", "HTTP"))[0].text == "a page"
    for path, said in (("br-packed", "packed as 'br'"), ("deflate-packed", "not come whole")):
        with pytest.raises(DataError, match=said):
            load_documents(f"{web.url}/{path}")
    with pytest.raises(DataError, match="larger when unpacked, the limit"):
        load_documents(f"{web.url}/gzip-packed", max_bytes=10)


def test_a_server_that_is_not_there(web):
    web.close()
    with pytest.raises(LMConnectionError, match=r"no answer from(.|\n)*check the address"):
        load_documents(f"{web.url}/page")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab .\n#é漢。", max_size=400), st.integers(1, 30), st.integers(0, 15), st.booleans())
def test_splitting_loses_nothing(text, size, overlap, headings):
    splitter = Splitter(size, min(overlap, size // 2), word_tokens)
    spans = list(splitter.spans(text, headings=headings))
    tokens = word_tokens(text)
    assert all(any(low <= begin and end <= high for low, high in spans) for begin, end in tokens)
    counts = [sum(low <= begin and end <= high for begin, end in tokens) for low, high in spans]
    assert all(1 <= count <= size for count in counts)
    assert spans == sorted(spans)
    assert len(set(spans)) == len(spans)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert sum(start <= begin and stop <= end for begin, stop in tokens) <= min(overlap, size // 2)


def test_passages_end_with_sentences_and_repeat_whole_ones():
    spans = [LOREM[low:high] for low, high in Splitter(30, 10, word_tokens).spans(LOREM)]
    assert all(one.endswith(".") for one in spans)
    assert all(one[0].isupper() for one in spans)
    first, second = spans[:2]
    assert first.endswith(second.split(". ")[0] + ".")


def test_what_a_tokenizer_takes_for_one_word_is_still_cut():
    text = "before " + "x" * 5000 + " after"
    cut = Splitter(20, 0, lambda given: [(at.start(), at.end()) for at in re.finditer(r"\S+", given)])
    spans = list(cut.spans(text))
    assert max(high - low for low, high in spans) < 300
    assert "".join(text[low:high] for low, high in spans).replace(" ", "") == text.replace(" ", "")


def test_tokens_may_be_counted_by_an_embedder_or_a_function(folder):
    letters = load_documents(folder / "guide.md", chunk_tokens=10, tokens=lambda text: [(at, at + 1) for at in range(len(text))])
    assert max(len(one.text) for one in letters) <= 10
    with pytest.raises(DataError, match="tokens= is a int"):
        load_documents(folder / "guide.md", tokens=3)


def test_passages_of_other_documents_have_no_context(folder):
    with pytest.raises(DataError, match="none of these documents"):
        load_documents(folder / "guide.md").context(Passage("x"))
