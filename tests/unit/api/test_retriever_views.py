from __future__ import annotations

import threading

import pytest

import dspex_nb as dx
from dspex_nb.api.retriever_views import SearchBox, hit_info, matched, retriever_info
from dspex_nb.passages import Passage
from dspex_nb.views.retriever_views import HitInfo, SearchInfo, marked, search_html, search_text

TEXTS = [
    {"text": "Loops repeat a block of code.", "title": "Loops", "source": "guide.pdf", "page": 3, "year": 2019},
    {"text": "<script>alert(1)</script> Classes group data.", "title": "Classes", "year": 2024},
]


@pytest.fixture
def index():
    return dx.retriever("bm25", index=TEXTS)


def test_a_card(index):
    info = retriever_info(index)
    assert (info.name, info.passages, len(info.sample)) == ("bm25", 2, 2)
    assert info.features
    bundle = index._repr_mimebundle_()
    assert "2 passages" in bundle["text/html"]
    assert "<script>" not in bundle["text/html"]
    assert "retriever bm25: 2 passages" in bundle["text/plain"]


def test_a_card_of_an_index_by_vectors_says_who_embeds():
    embedder = dx.Embedder(lambda texts: [[len(one), 1.0, 0.5] for one in texts], name="lengths")
    info = retriever_info(dx.retriever("memory", index=TEXTS, embedder=embedder))
    assert dict(info.facts)["embedder"] == "lengths"
    assert dict(info.facts)["dimension"] == "3"
    assert len(info.sample) == 2
    assert info.features[-1] == "live"


def test_a_card_of_a_server_that_is_away():
    card = dx.retriever("colbertv2", url="http://127.0.0.1:9/api/search")._repr_mimebundle_()
    assert "does not say how many" in card["text/html"]


def test_what_matched_is_marked():
    text = "Grouping data: a group of databases, cats."
    spans = [text[low:high] for low, high in matched(text, "group data")]
    assert spans == ["Grouping", "data", "group", "databases"]
    assert matched(text, "") == []
    html, cut = marked("x " * 500 + "needle", [(1000, 1006)])
    assert "<mark" in html
    assert cut
    assert html.startswith("…")


def test_a_hit_says_where_it_stands():
    info = hit_info(Passage("t", metadata={"source": "a.pdf", "page": 2, "section": "S", "year": 1, "start": 0, "end": 1}), "q")
    assert info.place == "a.pdf, page 2, S"
    assert info.metadata == {"year": "1"}
    assert hit_info(Passage("t", metadata={"source": "a.pdf", "page": 2, "page_end": 3}), "q").place == "a.pdf, pages 2 to 3"


def test_searches_and_faults(index):
    box = SearchBox(index, "code")
    found = box.search("group", '{"year": {"$gte": 2020}}')
    assert [one.title for one in found.hits] == ["Classes"]
    assert [one.title for one in box.hits] == ["Classes"]
    assert "is no JSON" in box.search("group", "{year").error
    assert "$nope" in box.search("group", '{"year": {"$nope": 1}}').error
    assert box.search("  ").hits == []

    class Broken:
        name, k = "broken", 3

        def search(self, query, k=None):
            raise ConnectionError("gone")

    assert SearchBox(Broken()).search("x").error == "ConnectionError: gone"
    assert "✗" in search_html(SearchInfo("x", error="gone\n→ start it"))
    assert "nothing found" in search_html(SearchInfo("<x>"))
    assert "<x>" not in search_html(SearchInfo("<x>"))
    assert "Loops" in search_text(SearchInfo("x", [HitInfo("text", 0.5, "Loops")]))


def test_in_a_terminal_the_results_are_printed(index, capsys):
    index.search_box("code")._ipython_display_()
    assert "Loops" in capsys.readouterr().out


def test_the_widget_searches_only_the_latest():
    pytest.importorskip("anywidget")
    from dspex_nb.widgets.search_box import Asked, SearchBoxWidget

    begun, go, done, seen = threading.Event(), threading.Event(), threading.Event(), []

    def search(asked):
        seen.append(asked.query)
        begun.set()
        go.wait(10)
        if asked.query == "last":
            done.set()
        return f"found {asked.query}"

    box = SearchBoxWidget(Asked("", "", 5), "", search, lambda: None)
    box._received(box, {"query": "first", "filter": "", "k": 3}, [])
    assert begun.wait(10)
    for query in ("second", "last"):  # while the first is searched
        box._received(box, {"query": query, "filter": "", "k": 3}, [])
    for wrong in ({}, {"query": 1, "filter": "", "k": 1}, "text", {"query": "x", "filter": "", "k": True}):
        box._received(box, wrong, [])
    go.set()
    assert done.wait(10)
    assert seen == ["first", "last"]
