"""Tables: a row is a document, its text one column or all of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex_nb.errors import DataError, did_you_mean
from dspex_nb.passages import passage_digest
from dspex_nb.retrieval.documents import plain_metadata
from dspex_nb.retrieval.loaded import Document

if TYPE_CHECKING:
    from dspex_nb.retrieval.reading import Reading

_TEXTS = ("text", "page_content", "content", "body", "passage", "document")
_OWN = ("id", "title", "source", "url")


def table_documents(content: bytes, kind: str, source: str, text_field: str | None, how: Reading) -> list[Document]:
    """Return a row a document of a CSV or TSV file.

    Raises:
        DataError: It is none, or has no such column.
    """
    import pandas as pd

    from dspex_nb.retrieval.reading import decoded

    try:
        frame = pd.read_csv(io.StringIO(decoded(content, how.encoding)), sep="\t" if kind == "tsv" else ",")
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(
            f"it is no {kind.upper()} table: {str(error).splitlines()[0][:160]}", hint="check its separators and quotes"
        ) from None
    return frame_documents(frame, text_field, source)


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
