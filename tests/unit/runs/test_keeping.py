from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import threading
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dspex_nb.runs.keeping import Unkeepable, read_item, write_item


class Item(BaseModel):
    name: str
    at: dt.date | None = None
    inner: Item | None = None


class Colour(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Pair:
    a: tuple
    b: Item


KNOWN = [Item, Colour, Pair]


def there_and_back(folder, value, classes=()):
    write_item(folder / "item", value, classes=classes)
    return read_item(folder / "item", classes=classes)[0]


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


keys = st.one_of(st.text(), st.integers(), st.booleans(), st.just("$"))
plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters()),
        st.binary(),
        st.dates(),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.uuids(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=120, deadline=None)
@given(value=plain)
def test_plain_values_come_back_equal_and_of_their_type(tmp_path_factory, value):
    assert same(there_and_back(tmp_path_factory.getbasetemp(), value), value)


def test_records_come_back_where_they_are_named(tmp_path):
    for value in (
        Item(name="x", at=dt.date(2026, 1, 2), inner=Item(name="y")),
        Colour.RED,
        Pair((1, 2), Item(name="z")),
        [Item(name="q")],
    ):
        again = there_and_back(tmp_path, value, KNOWN)
        assert (again, type(again)) == (value, type(value))
        with pytest.raises(Unkeepable, match="annotation does not name"):
            write_item(tmp_path / "other", value)


def test_arrays_and_tables_come_back_equal(tmp_path):
    for array in (
        np.arange(6).reshape(2, 3),
        np.array(2.5),
        np.array(["a", "bc"]),
        np.zeros((0, 3), dtype="f4"),
        np.array([True]),
    ):
        again = there_and_back(tmp_path, array)
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)
        assert (tmp_path / "item" / "0.npy").read_bytes().startswith(b"\x93NUMPY")
    scalar = there_and_back(tmp_path, np.float32(1.5))
    assert (scalar, type(scalar)) == (1.5, np.float32)
    frames = [
        pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, float("nan")]}, index=["p", "q"]),
        pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "2021-01-01"])}),
        pd.DataFrame(),
    ]
    for frame in frames:
        pd.testing.assert_frame_equal(there_and_back(tmp_path, {"table": frame})["table"], frame)
    series = pd.Series([1, 2], name="s")
    pd.testing.assert_series_equal(there_and_back(tmp_path, series), series)


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        lambda: 1,
        np.array([object()]),
        pd.DataFrame({"a": [[1], [2]]}),
        type("Odd", (list,), {})([1]),
        {1: object()},
    ],
)
def test_what_would_not_come_back_equal_is_refused(tmp_path, value):
    with pytest.raises(Unkeepable):
        write_item(tmp_path / "item", value)
    assert not list(tmp_path.iterdir())


def test_a_value_that_holds_itself_is_refused(tmp_path):
    looped: list = []
    looped.append(looped)
    with pytest.raises(Unkeepable, match="holds itself"):
        write_item(tmp_path / "item", looped)


def test_a_file_cut_short_or_changed_makes_the_whole_absent(tmp_path):
    folder = tmp_path / "item"
    for name in ("value.json", "0.npy"):
        write_item(folder, {"a": np.arange(100), "b": "text"})
        whole = (folder / name).read_bytes()
        for damaged in (whole[:-7], b"", whole[: len(whole) // 2] + b"\0" + whole[len(whole) // 2 + 1 :]):
            (folder / name).write_bytes(damaged)
            with pytest.raises(KeyError):
                read_item(folder)
        (folder / name).unlink()
        with pytest.raises(KeyError):
            read_item(folder)
    write_item(folder, 1)
    assert read_item(folder)[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["item"]


def test_age_and_foreign_classes(tmp_path):
    write_item(tmp_path / "item", Item(name="x"), about={"k": 1}, classes=KNOWN)
    assert read_item(tmp_path / "item", classes=KNOWN, max_age_s=60)[1] == {"k": 1}
    with pytest.raises(KeyError):
        read_item(tmp_path / "item", classes=KNOWN, max_age_s=0)
    with pytest.raises(KeyError):
        read_item(tmp_path / "item")
    assert there_and_back(tmp_path, decimal.Decimal("1.20")).as_tuple() == decimal.Decimal("1.20").as_tuple()


def test_a_table_is_parquet_where_pyarrow_is(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["p", "q"])
    pd.testing.assert_frame_equal(there_and_back(tmp_path, frame), frame)
    assert (tmp_path / "item" / "0.parquet").read_bytes().startswith(b"PAR1")


@pytest.mark.parametrize(
    "when", [dt.datetime(2024, 6, 1, tzinfo=ZoneInfo("UTC")), dt.time(2, 30, fold=1, tzinfo=dt.UTC)], ids=["zone", "fold"]
)
def test_a_time_that_would_come_back_without_its_zone_is_refused(tmp_path, when):
    with pytest.raises(Unkeepable, match="named time zone"):
        write_item(tmp_path / "item", when)
