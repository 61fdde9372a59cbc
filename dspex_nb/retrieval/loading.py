"""`load_documents`: files, folders, tables and web pages become passages that say where they stand."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from dspex_nb.errors import DataError, DSPexError, LMError, did_you_mean
from dspex_nb.events import Progress
from dspex_nb.passages import Passage
from dspex_nb.retrieval.documents import plain_metadata
from dspex_nb.retrieval.loaded import Document
from dspex_nb.retrieval.loading_tables import frame_documents, table_documents
from dspex_nb.retrieval.reading import Reading, kind_of, looks_like_html, looks_like_text, read
from dspex_nb.retrieval.splitting import Splitter, section_starts, tokens_of

MAX_BYTES = 50_000_000
_TOGETHER = 8  # pages fetched at once
_WEB = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class LoadError:
    """A file or page that could not be loaded: where, why, and the next act."""

    source: str
    message: str
    hint: str


class Documents(Sequence[Passage]):
    """Passages of loaded documents, ready for `retriever.add` or `index`.

    Attributes:
        documents: The documents, whole.
        errors: What could not be loaded.
        skipped: Files of a folder that are of no known kind.
    """

    def __init__(self, documents: Sequence[Document], splitter: Splitter | None, errors: Sequence[LoadError] = (),
                 skipped: Sequence[str] = ()) -> None:  # fmt: skip
        self.documents, self.errors, self.skipped = tuple(documents), tuple(errors), tuple(skipped)
        self._passages = [passage for one in self.documents for passage in passages_in(one, splitter)]

    @overload
    def __getitem__(self, at: int) -> Passage: ...
    @overload
    def __getitem__(self, at: slice) -> list[Passage]: ...
    def __getitem__(self, at: int | slice) -> Passage | list[Passage]:
        return self._passages[at]

    def __len__(self) -> int:
        return len(self._passages)

    def context(self, passage: Passage, characters: int = 200) -> str:
        """Return a passage's text with what stands around it in its document.

        Raises:
            DataError: It is of none of these documents.
        """
        found = next((one for one in self.documents if one.key == passage.metadata.get("document", passage.source)), None)
        if found is None or "start" not in passage.metadata:
            raise DataError(f"the passage {passage.id!r} is of none of these documents", hint="give one that they hold")
        low, high = int(passage.metadata["start"]), int(passage.metadata["end"])
        return found.text[max(0, low - characters) : high + characters]

    def __repr__(self) -> str:
        failed = "".join(f"\n  ✗ {one.source}: {one.message}" for one in self.errors[:5])
        more = f"\n  … and {len(self.errors) - 5} more in .errors" if len(self.errors) > 5 else ""  # noqa: PLR2004 - lines enough
        skipped = f", {len(self.skipped)} files of other kinds skipped" if self.skipped else ""
        count, parts = len(self.documents), len(self)
        return f"<{count:,} document{'s' * (count != 1)} in {parts:,} passage{'s' * (parts != 1)}{skipped}>{failed}{more}"


def load_documents(
    source: Any,
    *,
    chunk_tokens: int | None = 200,
    overlap_tokens: int | None = None,
    tokens: Any = None,
    pattern: str = "**/*",
    text_field: str | None = None,
    password: str | None = None,
    encoding: str | None = None,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = 30.0,
    on_error: str = "keep",
    on_progress: Callable[[Progress], object] | None = None,
) -> Documents:
    """Load documents and split them into passages.

    Every passage's metadata says its `source`, `title`, `start` and `end` (characters of the document's text), and its `page`,
    `section` or `row` where there are such: what a citation needs.

    Args:
        source: A file, a folder, a web address, a DataFrame (a row a document), or a list of these.
        chunk_tokens: Tokens in a passage, at most; None leaves documents whole.
        overlap_tokens: Tokens that a passage repeats of the one before; a fifth of `chunk_tokens` if None.
        tokens: How tokens are counted: an embedder, or a function from a text to each token's begin and end. By default the
            embedded model's tokenizer where it is installed, else words.
        pattern: Which files of a folder, e.g. `"**/*.md"`; hidden ones never.
        text_field: The column that holds a table's text; otherwise one called `text` or the like, or else all columns.
        password: Opens encrypted PDFs.
        encoding: Of text files; found out if None.
        max_bytes: Largest file.
        timeout_s: Seconds to wait for a web page.
        on_error: `"keep"` puts what failed into `.errors` and goes on with the others; `"raise"` stops. What was asked for by
            itself always raises.
        on_progress: Told of each file or page that is done.

    Raises:
        DataError: No such file, or one that cannot be read.
        LMConnectionError, LMTimeoutError: A web page that cannot be reached, or is too slow.
        MissingDependencyError: A kind whose reader is not installed.
    """
    if on_error not in ("keep", "raise"):
        raise DataError(f"on_error={on_error!r}", hint="it is 'keep' or 'raise'")
    overlap = (chunk_tokens or 0) // 5 if overlap_tokens is None else overlap_tokens
    splitter = None if chunk_tokens is None else Splitter(chunk_tokens, overlap, tokens_of(tokens))
    loader = _Loader(Reading(password, encoding), text_field, max_bytes, timeout_s)
    single = isinstance(source, str | Path) and not Path(source).expanduser().is_dir()
    wanted, skipped = _places(source, pattern)
    documents: list[Document] = []
    errors: list[LoadError] = []
    for done, (place, found) in enumerate(loader.load(wanted), 1):
        if isinstance(found, DSPexError):
            if single or on_error == "raise":
                raise type(found)(f"{place}: {found.message}", hint=found.hint)
            errors.append(LoadError(place, found.message, found.hint))
        else:
            documents.extend(found)
        if on_progress:
            on_progress(Progress(run_id="", done=done, total=len(wanted), errors=len(errors)))
    return Documents(documents, splitter, errors, skipped)


def passages_in(document: Document, splitter: Splitter | None) -> Iterator[Passage]:
    """Yield a document's passages, each an exact slice of its text with where it stands."""
    text = document.text
    spans: Iterable[tuple[int, int]] = [(0, len(text))] if splitter is None else splitter.spans(text, headings=document.headings)
    sections = section_starts(text) if document.headings else []
    starts = [start for start, _ in sections]
    for low, high in spans:
        where: dict[str, Any] = {"source": document.source, "title": document.title, "start": low, "end": high}
        if document.key != document.source:
            where["document"] = document.key
        if document.pages:
            where["page"] = bisect_right(document.pages, low)
            if (last := bisect_right(document.pages, high - 1)) != where["page"]:
                where["page_end"] = last
        if (at := bisect_right(starts, low)) and sections[at - 1][1] != document.title:
            where["section"] = sections[at - 1][1]
        yield Passage(text[low:high], metadata={**document.metadata, **where})


_Found = list[Document] | DSPexError


class _Loader:
    def __init__(self, how: Reading, text_field: str | None, max_bytes: int, timeout_s: float) -> None:
        self._how, self._text_field, self._max_bytes, self._timeout_s = how, text_field, max_bytes, timeout_s

    def load(self, places: Sequence[Any]) -> Iterator[tuple[str, _Found]]:
        """Yield each place with its documents or its error, in order; web pages are fetched some at once."""
        with ThreadPoolExecutor(_TOGETHER, "dspex-fetch") as threads:
            coming = {at: threads.submit(self._page, place) for at, place in enumerate(places) if is_web(place)}
            try:
                for at, place in enumerate(places):
                    yield _shown(place), coming[at].result() if at in coming else self._tried(place)
            finally:
                for future in coming.values():
                    future.cancel()

    def _tried(self, place: Any) -> _Found:
        try:
            if not isinstance(place, Path):
                return frame_documents(place, self._text_field)
            return self._file(place)
        except DSPexError as error:
            return error

    def _file(self, path: Path) -> list[Document]:
        try:
            if not path.exists():
                raise DataError("there is no file of this name", hint=f"{_near(path)}check the path, seen from {Path.cwd()}")
            if not path.is_file():
                raise DataError("it is a device or a pipe", hint="give a file, a folder, a web address or a DataFrame")
            size = path.stat().st_size
            if size > self._max_bytes:
                raise DataError(
                    f"it is {size / 1e6:.1f} MB, the limit {self._max_bytes / 1e6:.1f} MB", hint="raise max_bytes=, or split it"
                )
            content = path.read_bytes()
        except OSError as error:
            raise DataError(error.strerror or str(error), hint="check the path, and that you may read it") from None
        return self._read(content, kind_of(path.name), str(path), path.name)

    def _page(self, url: str) -> _Found:
        from dspex_nb.transport.fetching import fetch

        try:
            page = fetch(url, timeout_s=self._timeout_s, max_bytes=self._max_bytes)
            how = Reading(self._how.password, self._how.encoding or page.charset or None)
            return self._read(page.body, kind_of(page.url, page.content_type), page.url, page.url, how)
        except LMError as error:  # the transport's hints are about models
            return type(error)(error.message, hint="check the address and the network; timeout_s= says how long to wait")
        except DSPexError as error:
            return error

    def _read(self, content: bytes, kind: str, source: str, name: str, how: Reading | None = None) -> list[Document]:
        how = how or self._how
        kind = kind or _kind_by_content(content)
        if not kind:
            raise DataError("its kind is not known", hint="give text, Markdown, HTML, PDF, CSV or notebook files")
        if kind in ("csv", "tsv"):
            return table_documents(content, kind, source, self._text_field, how)
        found = read(content, kind, how)
        text = found.text.encode("utf-8", "replace").decode()  # halves of characters, which PDFs hold: no store takes them
        metadata = plain_metadata({"kind": kind, **found.metadata})
        return [Document(text, source, found.title or name, source, found.pages, found.headings, metadata)]


def _kind_by_content(content: bytes) -> str:
    if content.startswith(b"%PDF-"):
        return "pdf"
    if looks_like_html(content):
        return "html"
    return "text" if looks_like_text(content) else ""


def is_web(place: Any) -> bool:
    """Say whether a place is a web address."""
    return isinstance(place, str) and place[:8].lower().startswith(_WEB)


def _places(source: Any, pattern: str) -> tuple[list[Any], list[str]]:
    """Return the files, addresses and tables behind a source, and the files of folders that are of no known kind."""
    if _is_frame(source) or is_web(source):
        return [source], []
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise DataError("an empty text is no path", hint='give a file, a folder, or "." for this one')
        path = Path(source).expanduser()
        if not path.is_dir():
            return [path], []
        files = sorted(one for one in path.glob(pattern) if one.is_file() and not _hidden(one, path))
        return [one for one in files if kind_of(one.name)], [str(one) for one in files if not kind_of(one.name)]
    if isinstance(source, bytes | Mapping) or not isinstance(source, Iterable):
        raise DataError(
            f"cannot load documents from a {type(source).__name__}", hint="give a file, a folder, a web address or a DataFrame"
        )
    found: tuple[list[Any], list[str]] = ([], [])
    for one in source:
        for all_of, some in zip(found, _places(one, pattern), strict=True):
            all_of.extend(some)
    return found


def _is_frame(source: Any) -> bool:
    return hasattr(source, "to_dict") and hasattr(source, "columns")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)


def _near(path: Path) -> str:
    try:
        return did_you_mean(path.name, [one.name for one in path.parent.iterdir()])
    except OSError:
        return ""


def _shown(place: Any) -> str:
    from dspex_nb.transport import without_userinfo

    if is_web(place):
        return without_userinfo(place)
    return str(place) if isinstance(place, Path) else "the DataFrame"
