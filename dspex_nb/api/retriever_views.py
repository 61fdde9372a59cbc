"""A retriever in a notebook: its card, and a box to search it by hand."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from dspex_nb.api.displays import in_notebook
from dspex_nb.errors import DSPexError, FilterError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import KINDS, Index
from dspex_nb.retrieval.extending import provide
from dspex_nb.retrieval.proofs import label_of
from dspex_nb.retrieval.registry import features_of
from dspex_nb.retrieval.responding import pages_text
from dspex_nb.views.markup import frame, muted
from dspex_nb.views.retriever_views import (
    HitInfo,
    RetrieverInfo,
    SearchInfo,
    retriever_html,
    retriever_text,
    search_html,
    search_text,
)

_WORD = re.compile(r"\w+")
_SAMPLE = 3
_SHORTEST, _STEM = 3, 4  # letters: of a word worth marking; that two forms of a word share
_SHOWN_APART = frozenset({"title", "source", "start", "end", "page", "page_end", "section"})


def retriever_info(retriever: Any) -> RetrieverInfo:
    """Return what a retriever's card shows; what a store cannot say is left out."""
    name = str(retriever.name)
    given = getattr(retriever, "_embedder", None)
    embedder = getattr(given, "__self__", given)  # an index keeps what it calls, its embedder's method
    dimension = getattr(retriever, "_dimension", None)
    facts = [
        ("embedder", "" if embedder is None else str(getattr(embedder, "name", getattr(embedder, "__name__", "")))),
        ("dimension", f"{dimension:,}" if isinstance(dimension, int) else ""),
        ("passages a search", str(getattr(retriever, "k", ""))),
    ]
    return RetrieverInfo(
        name=name,
        passages=_count(retriever),
        facts=[(label, value) for label, value in facts if value],
        features=_features(name, retriever),
        sample=[hit_info(one, "") for one in _sample(retriever)],
    )


def hit_info(passage: Passage, query: Any) -> HitInfo:
    """Return what is shown of a passage, with the words of the query marked."""
    known = passage.metadata
    pages = pages_text(known.get("page"), known.get("page_end"))
    place = ", ".join(str(part) for part in (passage.source, pages, known.get("section")) if part)
    rest = {name: str(value) for name, value in known.items() if name not in _SHOWN_APART}
    score = float(passage.score) if query else None
    return HitInfo(passage.text, score, passage.title, place, tuple(matched(passage.text, str(query))), rest)


def matched(text: str, query: str) -> list[tuple[int, int]]:
    """Return where words of the query, or other forms of them, stand in a text."""
    wanted = {word for word in (found.casefold() for found in _WORD.findall(query)) if len(word) >= _SHORTEST}
    stems = {word[: max(_STEM, len(word) - 3)] for word in wanted if len(word) >= _STEM}
    return [
        found.span()
        for found in _WORD.finditer(text)
        if (word := found[0].casefold()) in wanted or any(word.startswith(stem) for stem in stems)
    ]


class SearchBox:
    """A box to search a retriever in; `hits` are the passages of the last search.

    Outside a notebook the first query's results are printed.
    """

    def __init__(self, retriever: Any, query: str = "", *, k: int | None = None, filter: Any = None) -> None:  # noqa: A002 - the API's word
        self._retriever, self._query = retriever, query
        self._k = k or int(getattr(retriever, "k", 5))
        self._filter = "" if not filter else filter if isinstance(filter, str) else json.dumps(filter, ensure_ascii=False)
        self.hits: list[Passage] = []
        self._info = SearchInfo(query)
        self._widget: Any = None
        self._display_id = uuid.uuid4().hex

    def search(self, query: str, filter: str = "", k: int | None = None) -> SearchInfo:  # noqa: A002
        """Search and return what the box shows; a fault is shown in words, never raised: nobody is there to catch it."""
        started = time.perf_counter()
        try:
            options = {"filter": _filter_of(filter)} if filter.strip() else {}
            self.hits = list(self._retriever.search(query, k=k or self._k, **options)) if query.strip() else []
        except DSPexError as error:
            self._info = SearchInfo(query, filter=filter, error=str(error))
        except Exception as error:  # noqa: BLE001 - a store's own failure
            self._info = SearchInfo(query, filter=filter, error=f"{type(error).__name__}: {error}")
        else:
            found = [hit_info(one, query) for one in self.hits]
            self._info = SearchInfo(query, found, filter, time.perf_counter() - started)
        return self._info

    def _ipython_display_(self) -> None:
        self.search(self._query, self._filter)
        if not in_notebook():
            sys.stdout.write(search_text(self._info) + "\n")
            return
        from dspex_nb.widgets.search_box import Asked, SearchBoxWidget

        asked = Asked(self._query, self._filter, self._k)
        self._widget = SearchBoxWidget(asked, search_html(self._info), self._asked, self._keep)
        self._publish(update=False)

    def _asked(self, asked: Any) -> str:
        return search_html(self.search(asked.query, asked.filter, asked.k))

    def _keep(self) -> None:
        self._publish(update=True)

    def _publish(self, *, update: bool) -> None:
        """Show the box, with what was found as the saved notebook's copy."""
        from IPython.display import publish_display_data

        from dspex_nb.widgets import bundle
        from dspex_nb.widgets.live import WIDGET_MIME

        model = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        asked = f"search: {self._info.query}" + (f"  ·  filter: {self._info.filter}" if self._info.filter else "")
        copy = f"{frame(muted(asked))}{search_html(self._info)}"
        data = bundle(copy, search_text(self._info), {WIDGET_MIME: model})
        publish_display_data(data, metadata={}, transient={"display_id": self._display_id}, update=update)


def _card(retriever: Any) -> Mapping[str, Any]:
    from dspex_nb.widgets import bundle

    info = retriever_info(retriever)
    return bundle(retriever_html(info), retriever_text(info))


provide("card", _card)
provide("search_box", SearchBox)


def _filter_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise FilterError(f"the filter {text!r:.80} is no JSON", hint='write e.g. {"year": {"$gte": 2020}}') from None


def _count(retriever: Any) -> int | None:
    try:
        return int(retriever.count())
    except Exception:  # noqa: BLE001 - a card must show though a server is away or does not tell
        return None


def _features(name: str, retriever: Any) -> list[str]:
    kind = KINDS.get(name)
    if kind is None:
        return []
    made = retriever if isinstance(retriever, Index) else None  # on a server it may do other things than in a folder
    return [*features_of(kind, made), *(one for one in (label_of(name),) if one)]


def _sample(retriever: Any) -> list[Passage]:
    kept, rows = getattr(retriever, "_passages", None), getattr(retriever, "_rows", None)
    held = list(kept.values()) if isinstance(kept, Mapping) else rows if isinstance(rows, Iterable) else ()
    found = (one if isinstance(one, Passage) else one[0] for one in islice(held, _SAMPLE))
    return [one for one in found if isinstance(one, Passage)]
