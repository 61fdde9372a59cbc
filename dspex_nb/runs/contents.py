"""What a value is made of, for keys: the same content gives the same parts in every process."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import re
import sys
import uuid
from typing import Any

Parts = tuple[str, tuple[Any, ...]]
"""A tag, and parts: texts, bytes, or values made of parts in turn."""

_SAID_BY_TEXT = (complex, decimal.Decimal, uuid.UUID, dt.datetime, dt.date, dt.time, dt.timedelta, range, slice)


class Unkeyable(Exception):  # noqa: N818 - no failure: it says why a result is not reused
    """A value or a function that has no key; the message says which and why."""


def parts_of(value: Any) -> Parts | None:  # noqa: PLR0911 - one return a kind of value
    """Return what a plain value is made of; None where its kind is not known here.

    Raises:
        Unkeyable: Its content cannot be read.
    """
    kind = type(value)
    if value is None or value is ... or value is NotImplemented or kind in (bool, int, float):
        return kind.__name__, (repr(value),)
    if kind in (list, tuple):
        return kind.__name__, tuple(value)
    if kind is dict:
        return "dict", tuple(item for pair in value.items() for item in pair)
    if kind in _SAID_BY_TEXT:
        return kind.__name__, (repr(value),)
    if kind is bytearray:
        return "bytearray", (bytes(value),)
    if isinstance(value, enum.Enum):
        return "enum", (kind.__module__, kind.__qualname__, value.name)
    if isinstance(value, pathlib.PurePath):
        return "path", (str(value),)
    if kind is re.Pattern:
        return "pattern", (value.pattern, str(value.flags))
    return _of_numpy(value) or _of_pandas(value) or _of_record(value)


def _of_numpy(value: Any) -> Parts | None:
    numpy = sys.modules.get("numpy")  # its values cannot exist before it was imported
    if numpy is None:
        return None
    if type(value) is numpy.ndarray or isinstance(value, numpy.generic):
        if value.dtype.hasobject:
            if type(value) is numpy.ndarray and value.dtype == object:
                return "objects", (str(value.shape), *value.ravel().tolist())
            raise Unkeyable("an array of records with objects in them")
        return "array", (str(value.dtype), str(value.shape), value.tobytes())
    return ("dtype", (str(value),)) if isinstance(value, numpy.dtype) else None


def _of_pandas(value: Any) -> Parts | None:
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None
    kind = type(value)
    if kind is pandas.DataFrame:
        columns = (value.iloc[:, at] for at in range(value.shape[1]))
        return "frame", (value.columns, value.index, *columns)
    if kind is pandas.Series:
        return "series", (value.name, str(value.dtype), _cells(value))
    if isinstance(value, pandas.Index):
        return "index", (tuple(value.names), str(value.dtype), value.tolist())
    if kind in (pandas.Timestamp, pandas.Timedelta) or value is pandas.NaT or value is pandas.NA:
        return "moment", (repr(value),)
    return None


def _cells(series: Any) -> Any:
    """Return a column's values: as an array where that says all, else one by one."""
    values = series.to_numpy()
    return values.tolist() if values.dtype == object else values


def _of_record(value: Any) -> Parts | None:
    kind = type(value)
    name = (kind.__module__, kind.__qualname__)
    if hasattr(kind, "model_fields") and hasattr(value, "__pydantic_fields_set__"):
        private = getattr(value, "__pydantic_private__", None)
        return "model", (*name, dict(value.__dict__), getattr(value, "__pydantic_extra__", None), private)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "dataclass", (*name, *((one.name, getattr(value, one.name, None)) for one in dataclasses.fields(value)))
    return None
