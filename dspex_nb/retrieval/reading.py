"""From the bytes of a file to its text: one reader a kind, each with what it needs imported where it is used."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dspex_nb.errors import DataError, MissingDependencyError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNSEEN = ("script", "style", "noscript", "template", "nav", "svg", "iframe", "form", "button")
_BLOCKS = frozenset({
    "p", "div", "section", "article", "main", "header", "footer", "aside", "blockquote", "ul", "ol", "table", "dl", "figure",
    "pre", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "details", "summary", "figcaption",
})  # fmt: skip
_LINES = frozenset({"li", "tr", "br", "dt", "dd"})
_SNIFFED = 8192


@dataclass(frozen=True, slots=True)
class Text:
    """What a reader found.

    Attributes:
        text: The document's text.
        title: What it calls itself, empty where it does not say.
        pages: Where each page begins in the text, for kinds that have pages.
        headings: Lines `# like this` begin sections.
        metadata: What else it says of itself.
    """

    text: str
    title: str = ""
    pages: tuple[int, ...] = ()
    headings: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are to be read.

    Attributes:
        password: Opens encrypted PDFs.
        encoding: Of texts; None finds out.
    """

    password: str | None = field(default=None, repr=False)
    encoding: str | None = None


def kind_of(name: str, content_type: str = "") -> str:
    """Return a file's kind by its type or name: a key of `READERS`, `"csv"` or `"tsv"`; empty where neither tells."""
    if content_type in _TYPES:
        return _TYPES[content_type]
    found = _SUFFIXES.get(PurePosixPath(name).suffix.lower(), "")
    return found or ("text" if content_type.startswith("text/") else "")


def looks_like_text(content: bytes) -> bool:
    """Say whether bytes of unknown kind are text."""
    return b"\0" not in content[:_SNIFFED] or content.startswith(tuple(mark for mark, _ in _BOMS))


def looks_like_html(content: bytes) -> bool:
    """Say whether bytes of unknown kind are a web page."""
    return content[:_SNIFFED].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def decoded(content: bytes, encoding: str | None = None) -> str:
    """Return bytes as text: by their mark, as UTF-8, else as Windows' Western letters.

    Raises:
        DataError: They are no text, or not in the encoding given.
    """
    if encoding:
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise DataError(
                f"it cannot be read as {encoding}: {error}", hint="leave encoding= out, or give the right one"
            ) from None
    for mark, name in _BOMS:
        if content.startswith(mark):
            return content.decode(name, "replace")
    if b"\0" in content[:_SNIFFED]:
        raise DataError("it is no text: it holds NUL bytes", hint="give a text, Markdown, HTML, PDF, CSV or notebook file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def provide_process(run: Callable[[Callable[[bytes, Reading], Text], bytes, Reading], Text]) -> None:
    """Set who runs the readers of the kinds `APART`."""
    _processes[:] = [run]


def read(content: bytes, kind: str, how: Reading) -> Text:
    """Read bytes of a kind of `READERS`.

    Raises:
        DataError: They are none of that kind, or damaged.
        MissingDependencyError: What reads them is not installed.
    """
    reader = READERS[kind]
    return _processes[0](reader, content, how) if _processes and kind in APART else reader(content, how)


def read_text(content: bytes, how: Reading) -> Text:
    """Read plain text."""
    return Text(decoded(content, how.encoding).replace("\r\n", "\n"))


def read_markdown(content: bytes, how: Reading) -> Text:
    """Read Markdown as it is; its first heading is the title, a front matter of YAML is left out."""
    text = decoded(content, how.encoding).replace("\r\n", "\n")
    if text.startswith("---\n") and (end := text.find("\n---\n", 3)) > 0:
        text = text[end + 5 :]
    return Text(text, _first_heading(text), headings=True)


def read_html(content: bytes, how: Reading) -> Text:
    """Read a page's visible text; headings, lists and code stay recognisable, menus and scripts are left out."""
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise _missing("HTML", "beautifulsoup4") from error
    page = BeautifulSoup(content, "html.parser", from_encoding=how.encoding)
    title = page.title.get_text(" ", strip=True) if page.title else ""
    for unseen in page.find_all([*_UNSEEN, "title"]):
        unseen.decompose()
    pieces: list[str] = []
    try:
        _gather(page.find("main") or page.body or page, pieces)
    except RecursionError:
        pieces = [page.get_text("\n")]
    text = _tidy("".join(pieces))
    return Text(text, title or _first_heading(text), headings=True)


def read_pdf(content: bytes, how: Reading) -> Text:
    """Read a PDF page by page.

    Raises:
        DataError: It is damaged, encrypted, or holds no text.
        MissingDependencyError: pypdf is not installed.
    """
    try:
        import pypdf
        from pypdf.errors import DependencyError, PyPdfError
    except ImportError as error:
        raise _missing("PDF", "pypdf") from error
    import logging

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # its warnings name byte offsets, which help nobody here
    try:
        reader = _opened(pypdf.PdfReader(io.BytesIO(content)), how.password)
        texts = [page.extract_text() or "" for page in reader.pages]
        title = str((reader.metadata.title if reader.metadata else None) or "").strip()
    except DataError:
        raise
    except DependencyError as error:  # AES needs the package cryptography
        raise MissingDependencyError(f"it is encrypted: {error}", hint="pip install 'pypdf[crypto]'") from None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError) as error:
        said = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise DataError(f"it is no PDF that can be read: {said}", hint="open it in a viewer and save it again") from None
    if not any(text.strip() for text in texts):
        raise DataError(
            f"its {len(texts)} pages hold no text: they are pictures", hint="run an OCR program over it first, e.g. ocrmypdf"
        )
    starts, size = [], 0
    for text in texts:
        starts.append(size)
        size += len(text) + 2
    return Text("\n\n".join(texts), title, tuple(starts), metadata={"pages": len(texts)})


def read_notebook(content: bytes, how: Reading) -> Text:
    """Read a notebook: its prose, its code fenced, and what the code printed.

    Raises:
        DataError: It is no notebook.
        MissingDependencyError: nbformat is not installed.
    """
    try:
        import nbformat
    except ImportError as error:
        raise _missing("notebooks", "nbformat") from error
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            book = nbformat.reads(decoded(content, how.encoding), as_version=4)
        cells = [_cell(cell) for cell in book.cells]
    except (nbformat.ValidationError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"it is no notebook: {str(error).splitlines()[0][:160]}", hint="open it in Jupyter and save it again"
        ) from None
    text = "\n\n".join(cell for cell in cells if cell)
    return Text(text, _first_heading(text), headings=True)


READERS: dict[str, Callable[[bytes, Reading], Text]] = {
    "text": read_text, "markdown": read_markdown, "html": read_html, "pdf": read_pdf, "notebook": read_notebook,
}  # fmt: skip
APART = frozenset({"pdf"})
"""Kinds that are read in a process of their own, where there is one: a bad file keeps a reader busy, or fills the memory."""
_processes: list[Callable[[Callable[[bytes, Reading], Text], bytes, Reading], Text]] = []
_SUFFIXES = {
    **dict.fromkeys((".txt", ".text", ".rst", ".log", ".org", ".tex", ".py", ".r", ".jl", ".sql", ".sh", ".js", ".ts", ".c", ".h",
                     ".cpp", ".java", ".go", ".rs", ".yaml", ".yml", ".toml", ".json", ".jsonl", ".xml"), "text"),
    ".md": "markdown", ".markdown": "markdown", ".qmd": "markdown", ".html": "html", ".htm": "html", ".xhtml": "html",
    ".pdf": "pdf", ".csv": "csv", ".tsv": "tsv", ".ipynb": "notebook",
}  # fmt: skip
_TYPES = {
    "text/html": "html", "application/xhtml+xml": "html", "application/pdf": "pdf", "text/markdown": "markdown",
    "text/csv": "csv", "text/tab-separated-values": "tsv", "application/x-ipynb+json": "notebook", "application/json": "text",
}  # fmt: skip


def _opened(reader: Any, password: str | None) -> Any:
    if reader.is_encrypted and not reader.decrypt(password or ""):
        raise DataError(
            "it is encrypted" if password is None else "it is encrypted, and this password does not open it",
            hint="give password=, or save it without one",
        )
    return reader


def _cell(cell: Any) -> str:
    source = str(cell.source).strip()
    if cell.cell_type != "code":
        return source
    parts = [f"```python\n{source}\n```"] if source else []
    for output in cell.get("outputs", ()):
        data = output.get("data") or {}
        said = output.get("text") or data.get("text/markdown") or data.get("text/plain") or ""
        said = "".join(said) if isinstance(said, list) else str(said)
        if said.strip():
            parts.append(f"```\n{said.strip()}\n```")
    return "\n\n".join(parts)


def _gather(node: Any, pieces: list[str]) -> None:
    from bs4 import NavigableString, Tag
    from bs4.element import PreformattedString

    for child in node.children:
        if isinstance(child, Tag):
            _element(child, pieces)
        elif isinstance(child, NavigableString) and not isinstance(child, PreformattedString):  # comments and doctypes are those
            pieces.append(str(child).replace("\n", " "))


def _element(tag: Any, pieces: list[str]) -> None:
    name = tag.name
    if name == "pre":
        pieces.append(f"\n\n```\n{tag.get_text().strip(chr(10))}\n```\n\n")
        return
    before = "\n\n" if name in _BLOCKS else "\n" if name in _LINES else ""
    mark = f"{'#' * int(name[1])} " if len(name) == 2 and name[0] == "h" and name[1] in "123456" else "- " if name == "li" else ""  # noqa: PLR2004
    if name in ("td", "th"):  # before a cell, not after: the parser nests cells that are not closed
        mark = " | " if pieces and not pieces[-1].endswith("\n") else ""
    pieces.append(before + mark)
    _gather(tag, pieces)
    pieces.append("\n\n" if name in _BLOCKS else "")


def _tidy(text: str) -> str:
    """Return text with its blanks in order; what is fenced stays as it is."""
    parts = text.split("```")
    for at in range(0, len(parts), 2):
        lines = [" ".join(line.split()) for line in parts[at].split("\n")]
        kept = [line for number, line in enumerate(lines) if line or (number and lines[number - 1])]
        edge = "\n\n" if at else ""
        parts[at] = edge + "\n".join(kept).strip("\n") + ("\n\n" if at < len(parts) - 1 else "")
    return "```".join(parts).strip()


def _first_heading(text: str) -> str:
    from dspex_nb.retrieval.splitting import section_starts

    return next((words for _, words in section_starts(text)), "")


def _missing(what: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(f"reading {what} needs the package {package!r}", hint="pip install 'dspex_nb[documents]'")
