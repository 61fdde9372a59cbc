"""Values ⇄ a folder of files: JSON, arrays as .npy, tables as Parquet; nothing is pickled, nothing is evaluated.

    value.json      {"v": 1, "at": epoch seconds, "about": {…}, "files": [[name, sha256], …], "value": …}
    0.npy           an array
    1.parquet       a DataFrame, where pyarrow is installed; else its columns, each as an array or a list

What JSON has no word for is an object with the key `"$"`: `{"$": "tuple", "of": […]}`. What is read back equals what was
written, types too; a value of which this is not known is refused. A folder gets its name when it is whole, and a file that
was cut short or changed makes the whole absent.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import importlib.util
import io
import itertools
import json
import math
import os
import pathlib
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

VERSION = 1
LARGEST_BYTES = 512 * 1024**2
_TEXTUAL: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    dt.datetime: (dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: (dt.date.isoformat, dt.date.fromisoformat),
    dt.time: (dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: (
        lambda each: f"{each.days} {each.seconds} {each.microseconds}",
        lambda text: dt.timedelta(*map(int, text.split())),
    ),
    decimal.Decimal: (str, decimal.Decimal),
    uuid.UUID: (str, uuid.UUID),
    complex: (repr, complex),
    float: (repr, float),
    bytes: (lambda raw: base64.b64encode(raw).decode(), base64.b64decode),
    pathlib.PosixPath: (str, pathlib.PosixPath),
    pathlib.WindowsPath: (str, pathlib.WindowsPath),
}
_BY_NAME = {kind.__name__: kind for kind in _TEXTUAL}
_ROWS: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_numbers = itertools.count()


class Unkeepable(Exception):  # noqa: N818 - no failure: it says why a value is not kept
    """A value that cannot be written so that it comes back equal; the message says which."""


def write_item(folder: Path, value: Any, *, about: Mapping[str, Any] | None = None, classes: Iterable[type] = ()) -> int:
    """Write a value as a folder, whole or not at all; returns its bytes.

    Args:
        folder: The item's own; one that is there is replaced.
        value: What to keep.
        about: JSON-able facts that `read_item` gives back.
        classes: Models, dataclasses and enums that the value may hold; others are refused, for data must not choose its class.

    Raises:
        Unkeepable: The value would not come back equal.
        OSError: The disk refuses.
    """
    packing = _Packing(classes)
    try:
        packed = packing.pack(value)
        files = [[name, hashlib.sha256(raw).hexdigest()] for name, raw in packing.files.items()]
        record = {"v": VERSION, "at": time.time(), "about": dict(about or {}), "files": files, "value": packed}
        content = {**packing.files, "value.json": json.dumps(record, separators=(",", ":")).encode()}
    except RecursionError:
        raise Unkeepable("a value that holds itself, or is nested too deep") from None
    size = sum(map(len, content.values()))
    if size > LARGEST_BYTES:
        raise Unkeepable(f"{size / 1024**2:,.0f} MB, which is more than the {LARGEST_BYTES // 1024**2} MB kept of one step")
    _write(folder, content)
    return size


def read_item(folder: Path, *, classes: Iterable[type] = (), max_age_s: float | None = None) -> tuple[Any, dict[str, Any]]:
    """Return a value and what was said about it.

    Raises:
        KeyError: There is none, it is older than `max_age_s`, or a file of it is cut short, changed, or of another version.
    """
    try:
        record = json.loads((folder / "value.json").read_bytes())
        if record["v"] != VERSION or (max_age_s is not None and record["at"] + max_age_s <= time.time()):
            raise KeyError(folder.name)  # noqa: TRY301 - as what cannot be read is
        files = {name: _checked(folder / Path(name).name, digest) for name, digest in record["files"]}
        return _Unpacking(files, classes).unpack(record["value"]), record["about"]
    except KeyError:
        raise
    except Exception as error:  # whatever a damaged file brings about, the item is absent
        raise KeyError(folder.name) from error


def pack_item(folder: Path) -> bytes:
    """Return an item's folder as bytes: one line of JSON, the names and lengths, then the files. Raises OSError if it is gone."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    content = [path.read_bytes() for path in files]
    head = json.dumps([[path.name, len(raw)] for path, raw in zip(files, content, strict=True)], separators=(",", ":"))
    return b"".join([head.encode(), b"\n", *content])


def unpack_item(folder: Path, packed: bytes) -> None:
    """Write an item's folder from bytes that `pack_item` made and whose origin is certain.

    Raises:
        ValueError: They are no such bytes.
        OSError: The disk refuses.
    """
    head, _, body = packed.partition(b"\n")
    content, start = {}, 0
    try:
        for name, length in json.loads(head):
            content[Path(name).name], start = body[start : start + length], start + length
    except TypeError as error:
        raise ValueError("no list of files") from error
    if start != len(body) or "value.json" not in content:
        raise ValueError("not a whole item")
    _write(folder, content)


def _checked(path: Path, digest: str) -> bytes:
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != digest:
        raise ValueError(f"{path.name} was changed")
    return raw


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    half = folder.with_name(f".{folder.name}.{os.getpid()}.{next(_numbers)}")
    try:
        half.mkdir(parents=True, mode=0o700)
        for name, raw in content.items():
            (half / name).write_bytes(raw)
        try:
            half.rename(folder)
        except OSError:  # there is one: an old one, or another process's of this moment
            old = folder.with_name(f"{half.name}.old")
            with contextlib.suppress(FileNotFoundError):
                folder.rename(old)
            half.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def _names(classes: Iterable[type]) -> dict[str, type]:
    return {f"{one.__module__}.{one.__qualname__}": one for one in classes}


class _Packing:
    """Turns a value into JSON and files."""

    def __init__(self, classes: Iterable[type]) -> None:
        self.classes = tuple(classes)
        self.names = {one: name for name, one in _names(self.classes).items()}
        self.files: dict[str, bytes] = {}

    def pack(self, value: Any) -> Any:  # noqa: PLR0911 - one return a kind of value
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"$": "float", "of": repr(value)}
        if kind is list:
            return [self.pack(item) for item in value]
        if kind is dict:
            return self._dict(value)
        if kind.__name__ in _ROWS and kind is _ROWS[kind.__name__]:
            return {"$": kind.__name__, "of": [self.pack(item) for item in value]}
        if kind in (dt.datetime, dt.time) and (value.fold or type(value.tzinfo) not in (type(None), dt.timezone)):
            raise Unkeepable(f"a {kind.__name__} with a named time zone or a fold, which would not come back")
        if kind in _TEXTUAL:
            return {"$": kind.__name__, "of": _TEXTUAL[kind][0](value)}
        found = self._array(value) or self._frame(value)  # also where an annotation names their classes
        if found is not None:
            return found
        if kind in self.names:
            return self._record(value)
        raise Unkeepable(_why_not(value))

    def _dict(self, value: dict[Any, Any]) -> Any:
        if all(type(name) is str for name in value) and "$" not in value:
            return {name: self.pack(item) for name, item in value.items()}
        return {"$": "dict", "of": [[self.pack(name), self.pack(item)] for name, item in value.items()]}

    def _record(self, value: Any) -> Any:
        """Pack a model, a dataclass or an enum, if it comes back equal."""
        name = self.names[type(value)]
        if isinstance(value, enum.Enum):
            return {"$": "enum", "class": name, "of": value.name}
        if hasattr(value, "model_dump"):
            packed = {"$": "model", "class": name, "of": self.pack(value.model_dump())}
        elif dataclasses.is_dataclass(value):
            fields = {one.name: self.pack(getattr(value, one.name)) for one in dataclasses.fields(value) if one.init}
            packed = {"$": "dataclass", "class": name, "of": fields}
        else:
            raise Unkeepable(_why_not(value))
        try:
            same = bool(_Unpacking(self.files, self.classes).unpack(packed) == value)
        except Exception:  # noqa: BLE001 - the user's own class: anything may come
            same = False
        if not same:
            raise Unkeepable(f"a {name} that does not come back equal")
        return packed

    def _file(self, raw: bytes, ending: str) -> str:
        name = f"{len(self.files)}.{ending}"
        self.files[name] = raw
        return name

    def _array(self, value: Any) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None or not (type(value) is numpy.ndarray or isinstance(value, numpy.generic)) or value.dtype.hasobject:
            return None
        raw = io.BytesIO()
        numpy.save(raw, value, allow_pickle=False)
        kind = "array" if type(value) is numpy.ndarray else "scalar"
        return {"$": kind, "of": self._file(raw.getvalue(), "npy")}

    def _frame(self, value: Any) -> Any:
        pandas = sys.modules.get("pandas")
        if pandas is None or type(value) not in (pandas.DataFrame, pandas.Series):
            return None
        frame = value if type(value) is pandas.DataFrame else value.to_frame("values")
        packed = self._parquet(frame) if importlib.util.find_spec("pyarrow") and frame.columns.is_unique else self._columns(frame)
        kind = "frame" if frame is value else "series"
        whole = {"$": kind, "of": packed} if frame is value else {"$": kind, "of": packed, "name": self.pack(value.name)}
        _check_frame(_Unpacking(self.files, self.classes).unpack(whole), value)
        return whole

    def _parquet(self, frame: Any) -> Any:
        raw = io.BytesIO()
        try:
            frame.to_parquet(raw, engine="pyarrow")
        except Exception as error:  # noqa: BLE001 - pyarrow has errors of its own
            raise Unkeepable(f"a DataFrame that Parquet does not take: {error}") from None
        return {"parquet": self._file(raw.getvalue(), "parquet")}

    def _columns(self, frame: Any) -> Any:
        """Pack a DataFrame without pyarrow: names, index, and each column as an array or a list."""
        columns = [frame.iloc[:, at] for at in range(frame.shape[1])]
        return {
            "columns": [self._axis(frame.columns), self._axis(frame.index)],
            "values": [[str(one.dtype), self._cells(one.to_numpy())] for one in columns],
        }

    def _axis(self, index: Any) -> Any:
        pandas = sys.modules["pandas"]
        if type(index) is pandas.RangeIndex:
            return {"range": [index.start, index.stop, index.step], "name": self.pack(index.name)}
        if type(index) not in (pandas.Index, pandas.DatetimeIndex):
            raise Unkeepable(f"a DataFrame with a {type(index).__name__}: install pyarrow, and it is kept as Parquet")
        return {"dtype": str(index.dtype), "values": self._cells(index.to_numpy()), "name": self.pack(index.name)}

    def _cells(self, values: Any) -> Any:
        return self.pack(values.tolist() if values.dtype == object else values)


def _check_frame(again: Any, value: Any) -> None:
    import pandas as pd

    check: Any = pd.testing.assert_frame_equal if isinstance(value, pd.DataFrame) else pd.testing.assert_series_equal
    try:
        check(again, value, check_exact=True, check_freq=False)
        for column in [value] if isinstance(value, pd.Series) else [value.iloc[:, at] for at in range(value.shape[1])]:
            if column.dtype == object and not {type(cell) for cell in column} <= {str, bool, int, type(None), dt.date}:
                raise Unkeepable(f"a DataFrame whose column {column.name!r} holds objects other than texts")
    except AssertionError as error:
        told = next((line for line in str(error).splitlines() if line.strip()), "")
        raise Unkeepable(f"a {type(value).__name__} that does not come back equal: {told}") from None


def _why_not(value: Any) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.").removeprefix("__main__.")
    if hasattr(value, "model_dump") or dataclasses.is_dataclass(value) or isinstance(value, enum.Enum):
        return f"a {kind}, which the step's annotation does not name"
    return f"a {kind}, which cannot be written without pickling"


class _Unpacking:
    """Turns JSON and files back into a value."""

    def __init__(self, files: Mapping[str, bytes], classes: Iterable[type]) -> None:
        self.files, self.classes = files, _names(classes)

    def unpack(self, packed: Any) -> Any:  # noqa: PLR0911 - one return a kind of value
        if isinstance(packed, list):
            return [self.unpack(item) for item in packed]
        if not isinstance(packed, dict):
            return packed
        if "$" not in packed:
            return {name: self.unpack(item) for name, item in packed.items()}
        tag, of = packed["$"], packed["of"]
        if tag == "dict":
            return {self.unpack(name): self.unpack(item) for name, item in of}
        if tag in _ROWS:
            return _ROWS[tag]([self.unpack(item) for item in of])
        if tag in _BY_NAME:
            return _TEXTUAL[_BY_NAME[tag]][1](of)
        if tag in ("array", "scalar"):
            import numpy as np

            array = np.load(io.BytesIO(self.files[of]), allow_pickle=False)
            return array if tag == "array" else array[()]
        return self._record(tag, packed) if "class" in packed else self._frame(tag, packed)

    def _record(self, tag: str, packed: Mapping[str, Any]) -> Any:
        kind: Any = self.classes[packed["class"]]
        if tag == "enum":
            return kind[packed["of"]]
        fields = self.unpack(packed["of"])
        return kind.model_validate(fields) if tag == "model" else kind(**fields)

    def _frame(self, tag: str, packed: Mapping[str, Any]) -> Any:
        import pandas as pd

        of = packed["of"]
        if "parquet" in of:
            frame = pd.read_parquet(io.BytesIO(self.files[of["parquet"]]), engine="pyarrow")
        else:
            names, index = (self._axis(axis) for axis in of["columns"])
            columns = [pd.Series(self.unpack(cells), index=index, dtype=kind) for kind, cells in of["values"]]
            frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=index)
            frame.columns = names
        return frame if tag == "frame" else frame.iloc[:, 0].rename(self.unpack(packed["name"]))

    def _axis(self, axis: Mapping[str, Any]) -> Any:
        import pandas as pd

        name = self.unpack(axis["name"])
        if "range" in axis:
            start, stop, step = axis["range"]
            return pd.RangeIndex(start, stop, step, name=name)
        return pd.Index(self.unpack(axis["values"]), dtype=axis["dtype"], name=name)
