"""`columns_of`: texts, dicts, a DataFrame, an id-to-text dict or documents of other libraries, as ids, texts and metadata."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from itertools import chain, repeat
from typing import Any

from dspex_nb.errors import DataError, did_you_mean
from dspex_nb.passages import Passage, passage_id
from dspex_nb.retrieval.columns import Columns, uncollected

_TEXT_NAMES = ("text", "page_content", "long_text", "content", "body", "passage", "document")
_TEXT, _DICT, _PLAIN = frozenset({str}), frozenset({dict}), frozenset({str, int, bool, type(None)})
_ACCEPTED = "pass a list of texts, dicts or passages, a dict from id to text, or a DataFrame"


def passages_of(
    given: Any,
    metadatas: Iterable[Mapping[str, Any] | None] | None = None,
    ids: Iterable[Any] | None = None,
    *,
    text_field: str | None = None,
) -> list[Passage]:
    """Return what was given as passages; of several with one id the last stays: see `columns_of`."""
    found = columns_of(given, metadatas, ids, text_field=text_field)
    last = found.last_places()
    return (found if last is None else found.at(last)).passages()


def columns_of(
    given: Any,
    metadatas: Iterable[Mapping[str, Any] | None] | None = None,
    ids: Iterable[Any] | None = None,
    *,
    text_field: str | None = None,
) -> Columns:
    """Return what was given as columns, a place for each item.

    Args:
        given: Texts, dicts, `Passage`s, documents with `page_content` or `text`, a DataFrame, or a dict from id to text.
        metadatas: One mapping a text, laid over what the text brings with it.
        ids: One a text; else its own id, else one made from its content.
        text_field: The column or key that holds the text, where it is not called `text`, `content` or the like.

    Raises:
        DataError: Something that holds no text, lists of different lengths, or metadata that is not JSON.
    """
    items = list(_items(given))
    extras = None if metadatas is None else _aligned("metadatas", metadatas, len(items))
    names = None if ids is None else _ids(_aligned("ids", ids, len(items)))
    if _TEXT.issuperset(map(type, items)):
        texts, told, own = items, [one or {} for one in extras or repeat(None, len(items))], None
    else:
        with uncollected():
            texts, told, own = _columns(items, extras, text_field)
    flat = _are_flat(told)
    with uncollected():
        plain: list[dict[str, Any]] = told if flat else list(map(plain_metadata, told))
    names = names or own or [""] * len(items)
    if not all(names):
        made = zip(names, texts, plain, strict=True)
        names = [name or passage_id(text, metadata) for name, text, metadata in made]
    return Columns(names, texts, plain, flat)


def _columns(items: list[Any], extras: list[Any] | None, text_field: str | None) -> tuple[list[str], list[Any], list[str]]:
    texts, told, ids = [], [], []
    for at, (item, extra) in enumerate(zip(items, extras or repeat(None, len(items)), strict=True)):
        text, metadata, name = _parts(item, at, text_field)
        texts.append(text)
        told.append({**metadata, **extra} if extra and metadata else extra or metadata)
        ids.append(name)
    return texts, told, ids


def _are_flat(given: list[Any]) -> bool:
    """Say whether all metadata is of JSON's plain values: what nearly all is, and seen of all at once in a tenth of the time."""
    return (
        _DICT.issuperset(map(type, given)) and _TEXT.issuperset(map(type, set(chain.from_iterable(given)))) and _are_plain(given)
    )


def _are_plain(given: list[dict[str, Any]]) -> bool:
    kinds = set(map(type, chain.from_iterable(map(dict.values, given))))
    if float in kinds and all(math.isfinite(one) for told in given for one in told.values() if type(one) is float):
        kinds.remove(float)
    return kinds <= _PLAIN


def plain_metadata(given: Any) -> dict[str, Any]:
    """Return metadata as JSON values: dates as ISO text, NumPy's numbers as Python's, not-a-number left out as missing.

    Raises:
        DataError: A key that is no text, or a value that JSON has no word for.
    """
    if type(given) is not dict and not isinstance(given, Mapping):  # dict first: to ask whether it is a Mapping takes longer
        raise DataError(f"metadata is a {type(given).__name__}, expected a dict", hint='write e.g. {"title": "if", "year": 2026}')
    if _TEXT.issuperset(map(type, given)) and _PLAIN.issuperset(map(type, given.values())):
        return dict(given)  # what nearly all are, and quick to see
    found: dict[str, Any] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise DataError(f"the metadata key {key!r} is a {type(key).__name__}, expected a text", hint="use text keys")
        try:
            plain = plain_value(value)
        except DataError as error:
            raise DataError(f"the metadata {key!r} {error.message}", hint=error.hint) from None
        if not (isinstance(plain, float) and math.isnan(plain)):
            found[key] = plain
    return found


def plain_value(value: Any) -> Any:
    """Return a value as JSON has it; raise DataError if it has no such form."""
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and not math.isinf(value)):
        return value
    if type(value).__name__ in ("NaTType", "NAType"):  # pandas' words for missing
        return math.nan
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_value(one) for one in (sorted(value, key=repr) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Mapping):
        return {str(key): plain_value(one) for key, one in value.items()}
    if type(value).__module__ == "numpy":
        return plain_value(value.tolist())
    raise DataError(
        f"is {value!r:.60}, a {type(value).__name__}; expected text, numbers, booleans, dates, lists or dicts of these",
        hint="write it as text, e.g. str(value)",
    )


_Parts = tuple[str, Mapping[str, Any], str]


def _items(given: Any) -> Iterable[Any]:
    if hasattr(given, "to_dict") and hasattr(given, "columns"):  # a DataFrame, without importing pandas
        return [{str(key): value for key, value in row.items()} for row in given.to_dict("records")]
    if isinstance(given, Mapping):
        return [_with_id(name, value) for name, value in given.items()]
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise DataError(f"expected texts, found a {type(given).__name__}", hint=_ACCEPTED)
    return given


def _with_id(name: Any, value: Any) -> Any:
    if isinstance(value, str):
        return {"id": name, "text": value}
    if isinstance(value, Mapping):
        return {**value, "id": name}
    raise DataError(f"the text of {name!r} is a {type(value).__name__}, expected a text or a dict", hint=_ACCEPTED)


def _parts(item: Any, at: int, text_field: str | None) -> _Parts:
    """Return the text, metadata and id of one item; an empty id is made from the content later."""
    if isinstance(item, str):
        return item, {}, ""
    if isinstance(item, Passage):
        return item.text, item.metadata, item.id
    if not isinstance(item, Mapping):
        item = _fields_of(item, at)
    name = text_field or _text_name(item, at)
    text = item.get(name)
    if not isinstance(text, str):
        found = f"a {type(text).__name__}" if name in item else f"missing among {', '.join(map(str, item))}"
        raise DataError(
            f"item {at}: {name!r} is {found}, expected a text",
            hint=f"{did_you_mean(name, map(str, item))}name the text's field: text_field='…'",
        )
    rest = {key: value for key, value in item.items() if key not in (name, "id", "metadata")}
    own = item.get("metadata")
    return text, {**rest, **(own if isinstance(own, Mapping) else {})}, _id(item["id"]) if item.get("id") is not None else ""


def _fields_of(item: Any, at: int) -> dict[str, Any]:
    """Return the fields of a document of LangChain, LlamaIndex or DSPy."""
    if hasattr(item, "toDict"):
        return dict(item.toDict())
    for name in _TEXT_NAMES:
        if isinstance(getattr(item, name, None), str):
            return {"text": getattr(item, name), "metadata": getattr(item, "metadata", None), "id": getattr(item, "id", None)}
    raise DataError(f"item {at} is a {type(item).__name__}, which has no text", hint=_ACCEPTED)


def _text_name(item: Mapping[Any, Any], at: int) -> str:
    for name in _TEXT_NAMES:
        if name in item:
            return name
    texts = [str(key) for key, value in item.items() if isinstance(value, str) and key != "id"]
    if len(texts) == 1:
        return texts[0]
    raise DataError(
        f"item {at} has the fields {', '.join(map(str, item)) or 'none'}: which one is the text?",
        hint="call it 'text', or name it: text_field='…'",
    )


def _ids(given: list[Any]) -> list[str]:
    if _TEXT.issuperset(map(type, given)) and all(given):
        return given
    return [_id(one) for one in given]


def _id(given: Any) -> str:
    if type(given) is str and given:
        return given
    if hasattr(given, "item") and type(given).__module__ == "numpy":
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise DataError(f"an id is {given!r:.60}, expected a text or a whole number", hint="leave ids out to have them made")
    return str(given)


def _aligned(name: str, given: Iterable[Any], count: int) -> list[Any]:
    found = [given] * count if isinstance(given, str) else list(given)
    if isinstance(given, str | Mapping) or len(found) != count:
        raise DataError(f"{len(found)} {name} for {count} texts", hint=f"give a list with one of {name} for each text")
    return found
