"""Tables: a row is a document, its text one column or all of them."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dspex_nb.errors import DataError, did_you_mean
from dspex_nb.passages import passage_digest
from dspex_nb.retrieval.documents import plain_metadata
from dspex_nb.retrieval.loaded import Document

if TYPE_CHECKING:
    from dspex_nb.retrieval.reading import Reading

_TEXTS = ("text", "page_content", "content", "body", "passage", "document")
_OWN = ("id", "title", "source", "url")
_QUOTED = re.compile(r'"[^"]*"')
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")  # 007 is a text: a postcode, a telephone's number
_FRACTION = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_BOOLS = {"True": True, "False": False, "true": True, "false": False, "TRUE": True, "FALSE": False}


def table_documents(content: bytes, kind: str, source: str, text_field: str | None, how: Reading) -> list[Document]:
    """Return a row a document of a CSV or TSV file.

    Raises:
        DataError: It is none, or has no such column.
    """
    import pandas as pd

    from dspex_nb.retrieval.reading import decoded

    text = decoded(content, how.encoding)
    try:  # as texts, and the header as a row: else pandas makes 7 of 007, nothing of NA, and an index of what the header lacks
        cells = pd.read_csv(io.StringIO(text), sep=_separator(text, kind), header=None, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"it is no {kind.upper()} table: {str(error).splitlines()[0][:160]}",
            hint="check its separators and quotes, and that the first line names every column",
        ) from None
    names, *rows = cells.to_numpy().tolist()
    columns = {name: _typed([row[at] for row in rows]) for at, name in enumerate(_named(names))}
    return frame_documents(pd.DataFrame(columns, dtype=object), text_field, source)


def _separator(text: str, kind: str) -> str:
    """Return what parts the columns: of a CSV whichever of the usual marks the first line has most of."""
    if kind == "tsv":
        return "\t"
    head = _QUOTED.sub("", text.lstrip().partition("\n")[0])
    return max(",;\t|", key=head.count)  # of equal ones the first


def _named(header: Iterable[str]) -> list[str]:
    """Return a name for each column, all different."""
    found: list[str] = []
    for at, given in enumerate(header, 1):
        name = given.strip() or f"column {at}"
        found.append(name if name not in found else f"{name} {at}")
    return found


def _typed(cells: list[str]) -> list[Any]:
    """Return a column's cells as numbers or truth values where all of them are; an empty one is missing."""
    told = [one for one in cells if one]
    read = next(
        (
            kind
            for kind, fits in ((int, _WHOLE.fullmatch), (float, _FRACTION.fullmatch), (_BOOLS.__getitem__, _BOOLS.get))
            if all(fits(one) is not None for one in told)
        ),
        str,
    )
    return [read(one) if one else math.nan for one in cells]


def frame_documents(frame: Any, text_field: str | None = None, source: str = "DataFrame") -> list[Document]:
    """Return a row a document; rows without text are left out.

    Raises:
        DataError: There is no such column.
    """
    columns = [str(name) for name in frame.columns]
    if text_field is not None and text_field not in columns:
        raise DataError(
            f"there is no column {text_field!r}; there are {', '.join(columns)}", hint=did_you_mean(text_field, columns)
        )
    name = text_field or next((one for one in _TEXTS if one in columns), None)
    found = []
    for number, row in enumerate(frame.to_dict("records")):
        values = plain_metadata({str(key): value for key, value in row.items()})
        text = str(values.get(name, "")) if name else _lines(values)
        if not text.strip():
            continue
        rest = {key: value for key, value in values.items() if key not in (name, *_OWN)} if name else {}
        own = str(values["id"]) if "id" in values else passage_digest("", text, rest)[:16]  # a row's place may change
        where = str(values.get("source") or values.get("url") or source)
        found.append(Document(text, where, str(values.get("title") or ""), f"{source}#{own}", metadata={**rest, "row": number}))
    return found


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in values.items() if value is not None and str(value) != "")
