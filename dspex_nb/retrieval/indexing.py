"""`index`: a retriever made to hold exactly the documents given; what is unchanged is neither embedded nor written again."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dspex_nb.cache.keys import digest
from dspex_nb.errors import DataError, DSPexError, RetrieverError
from dspex_nb.events import Progress
from dspex_nb.passages import Passage
from dspex_nb.retrieval.batches import BATCH
from dspex_nb.retrieval.documents import passages_of

_VERSION = 1
_KEPT = "_indexed_documents"


@dataclass(frozen=True, slots=True)
class Indexed:
    """What `index` did, in documents; `passages` counts those written.

    Attributes:
        new: Documents added.
        changed: Documents replaced.
        gone: Documents removed, as they were not given any more.
        unchanged: Documents left as they are.
        passages: Passages written.
    """

    new: int
    changed: int
    gone: int
    unchanged: int
    passages: int

    def __str__(self) -> str:
        counts = ", ".join(f"{getattr(self, name)} {name}" for name in ("new", "changed", "gone", "unchanged"))
        return f"{counts}; {self.passages} passages written"


class Holder(Protocol):
    """What holds passages: a retriever, as far as indexing goes."""

    def add(self, texts: Any) -> Any:
        """Add passages, replacing those whose id is there."""

    def delete(self, ids: list[str]) -> Any:
        """Remove passages by id."""

    def count(self) -> int:
        """Return how many there are."""


_Manifest = dict[str, tuple[str, list[str]]]


def index(
    retriever: Holder,
    documents: Any,
    *,
    manifest: Path | str | None = None,
    remove: bool = True,
    on_progress: Callable[[Progress], object] | None = None,
) -> Indexed:
    """Make a retriever hold exactly these documents.

    Documents are told apart by their passages' `document`, else `source`, else by id. What came to the retriever by `add` is left
    alone.

    Args:
        retriever: The retriever.
        documents: What `load_documents` returned, or anything that `add` takes.
        manifest: A JSON file that remembers what was indexed, for stores that outlive the kernel; without it the retriever object
            remembers. If the store holds less than that remembers, everything is written again.
        remove: Whether documents that are not given any more are removed.
        on_progress: Told how many of the new and changed documents are done.

    Raises:
        DataError: Something that holds no text, or a manifest that is none.
    """
    given = _by_document(passages_of(documents, text_field=getattr(retriever, "_text_field", None)))
    book = _Book(retriever, manifest)
    known = book.read()
    if known and sum(len(ids) for _, ids in known.values()) > _count(retriever):
        known = {}
    new = [key for key in given if key not in known]
    changed = [key for key in given if key in known and known[key][0] != _digest(given[key])]
    gone = [key for key in known if key not in given] if remove else []
    for key in gone:
        retriever.delete(known.pop(key)[1])
    waiting = [*new, *changed]
    written = 0
    try:
        for done, batch in _batches(given, waiting):
            passages = [one for key in batch for one in given[key]]
            retriever.add(passages)
            written += len(passages)
            for key in batch:
                ids = [one.id for one in given[key]]
                left_over = sorted(set(known[key][1]) - set(ids)) if key in known else []
                if left_over:  # after adding: a search meanwhile finds the old or the new, never nothing
                    retriever.delete(left_over)
                known[key] = (_digest(given[key]), ids)
            if on_progress:
                on_progress(Progress(run_id="", done=done, total=len(waiting)))
    finally:
        book.write(known)
    return Indexed(len(new), len(changed), len(gone), len(given) - len(waiting), written)


def _count(retriever: Holder) -> float:
    """Return how many passages there are; where a store does not say, as many as any book remembers."""
    try:
        return retriever.count()
    except RetrieverError:
        return math.inf


def _by_document(passages: Iterable[Passage]) -> dict[str, list[Passage]]:
    found: dict[str, list[Passage]] = {}
    for one in passages:
        key = str(one.metadata.get("document") or one.source or one.id)
        found.setdefault(key, []).append(one)
    return found


def _digest(passages: Iterable[Passage]) -> str:
    return digest([[one.id, one.text, dict(one.metadata)] for one in passages])[:32]


def _batches(given: Mapping[str, list[Passage]], keys: list[str]) -> Iterable[tuple[int, list[str]]]:
    """Yield whole documents of together about `BATCH` passages, with how many documents are done after them."""
    batch: list[str] = []
    size = 0
    for done, key in enumerate(keys, 1):
        batch.append(key)
        size += len(given[key])
        if size >= BATCH or done == len(keys):
            yield done, batch
            batch, size = [], 0


class _Book:
    """Where it is remembered which documents a retriever holds: a file, or the retriever itself."""

    def __init__(self, retriever: Holder, manifest: Path | str | None) -> None:
        self._retriever = retriever
        self._path = Path(manifest).expanduser() if manifest is not None else None

    def read(self) -> _Manifest:
        if self._path is None:
            return dict(getattr(self._retriever, _KEPT, {}))
        try:
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        try:
            found = json.loads(text)
            if found["version"] != _VERSION:
                return {}
            return {str(key): (str(mark), [str(one) for one in ids]) for key, (mark, ids) in found["documents"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{self._path} is no manifest of an index", hint="choose another file, or delete it to index everything again"
            ) from None

    def write(self, known: _Manifest) -> None:
        if self._path is None:
            with contextlib.suppress(AttributeError):  # a retriever with slots: everything is indexed again next time
                setattr(self._retriever, _KEPT, known)
            return
        content = json.dumps({"version": _VERSION, "documents": known}, ensure_ascii=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False, encoding="utf-8") as file:
                file.write(content)
            os.replace(file.name, self._path)  # noqa: PTH105 - whole or not at all
        except OSError as error:
            raise DSPexError(
                f"the manifest {self._path} cannot be written: {error.strerror}", hint="choose another file"
            ) from None
