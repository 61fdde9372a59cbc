"""Rows from whatever a user holds."""

import pandas as pd
import pytest

from dspex_nb.datasets import rows_of
from dspex_nb.errors import DataError, MissingDependencyError
from dspex_nb.examples import Example

ROWS = [{"message": "a", "urgency": 1}, {"message": "b", "urgency": 2}]


def test_dicts_examples_frames_and_generators():
    import dspy

    for data in (
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        [Example(row) for row in ROWS],
        [dspy.Example(**row) for row in ROWS],
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS, index=["x", "y"]),
    ):
        rows = rows_of(data, ["message"])
        assert [dict(row) for row in rows] == ROWS
        assert rows[0].inputs() == {"message": "a"}
        assert rows[0].labels() == {"urgency": 1}
        assert type(rows[0]["urgency"]) is int  # no NumPy in prompts


def test_input_keys_that_are_set_stay():
    import dspy

    given = [dspy.Example(**ROWS[0]).with_inputs("urgency"), Example(ROWS[0], ["urgency"])]
    assert [row.inputs() for row in rows_of(given, ["message"])] == [{"urgency": 1}] * 2
    assert rows_of([dspy.Example(**ROWS[0])])[0].labels() == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "message,urgency\na,1\nb,2\n"),
        ("r.jsonl", '{"message": "a", "urgency": 1}\n\n{"message": "b", "urgency": 2}\n'),
        ("r.json", '[{"message": "a", "urgency": 1}, {"message": "b", "urgency": 2}]'),
        ("R.CSV", "message,urgency\na,1\nb,2\n"),
    ],
)
def test_files(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [dict(row) for row in rows_of(tmp_path / name)] == ROWS
    assert [dict(row) for row in rows_of(str(tmp_path / name))] == ROWS


def test_parquet_names_its_package(tmp_path, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "pyarrow" else found(name, *rest))
    (tmp_path / "r.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingDependencyError, match="pip install pyarrow"):
        rows_of(tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("bad.jsonl", '{"a": 1}\n{"a": \n', "line 2"),
        ("bad.json", "{", "bad.json"),
        ("data.txt", "x", "unknown kind 'txt'"),
        ("empty.csv", "", "empty.csv"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as raised:
        rows_of(tmp_path / name)
    assert told in str(raised.value)
    assert raised.value.hint


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"did you mean 'train\.csv'"):
        rows_of(tmp_path / "trian.csv")


@pytest.mark.parametrize("data", [3, None, {"message": "a"}, [1, 2], ["text"]])
def test_what_is_no_rows(data):
    with pytest.raises(DataError) as raised:
        rows_of(data)
    assert "list of dicts" in str(raised.value)


def test_missing_columns():
    with pytest.raises(DataError, match="did you mean 'message'"):
        rows_of(ROWS, ["mesage"])
    with pytest.raises(DataError, match="row 1 has no column 'urgency'"):
        rows_of([ROWS[0], {"message": "b"}], ["urgency"])
    with pytest.raises(DataError, match="no columns"):
        rows_of([{}], ["message"])
