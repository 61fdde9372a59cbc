"""`rows_of`: a list of dicts, examples, a DataFrame or a file's path become examples."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dspex_nb.errors import DataError, MissingDependencyError, did_you_mean
from dspex_nb.examples import Example

_BATCH = 2000  # rows of a Parquet file in memory at once


def rows_of(data: Any, inputs: Sequence[str] | None = None) -> list[Example]:
    """Return `data` as examples.

    Args:
        data: Dicts, `Example`s, `dspy.Example`s, a pandas DataFrame, or the path of a CSV, JSONL or Parquet file.
        inputs: Input fields that each row must hold; they become the examples' input keys.

    Raises:
        DataError: A file that cannot be read, a row that is no mapping, or a missing input column.
        MissingDependencyError: A Parquet file without pyarrow.
    """
    examples = list(iter_rows_of(data, inputs))
    for index, example in enumerate(examples):
        missing = [name for name in inputs or () if name not in example]
        if missing:
            raise missing_column(missing[0], list(example), where=f"row {index}" if index else "the data")
    return examples


def iter_rows_of(data: Any, inputs: Sequence[str] | None = None) -> Iterator[Example]:
    """Yield what `rows_of` returns, one by one, without its look at the columns."""
    return (_example(row, index, inputs) for index, row in enumerate(_records(data)))


def missing_column(name: str, columns: Sequence[str], *, where: str = "the data") -> DataError:
    """Return the error for a column that `where` lacks, with the nearest one it has."""
    near = did_you_mean(name, columns)
    return DataError(
        f"{where} has no column {name!r}; it has: {', '.join(map(str, columns)) or 'no columns'}",
        hint=f"{near}rename the column, e.g. df.rename(columns={{{(columns or ['old'])[0]!r}: {name!r}}})",
    )


def _example(row: Any, index: int, inputs: Sequence[str] | None) -> Example:
    if isinstance(row, Example):
        return row.with_inputs(*inputs) if inputs is not None and row.input_keys is None else row
    if isinstance(row, Mapping):
        return Example({str(k): v for k, v in row.items()}, inputs)
    if hasattr(row, "toDict") and hasattr(row, "inputs"):  # dspy.Example, without importing dspy
        keys = getattr(row, "_input_keys", None)
        return Example(row.toDict(), inputs if keys is None else keys)
    raise DataError(
        f"row {index} is a {type(row).__name__}, expected a dict or an example",
        hint="pass a list of dicts, a DataFrame, dspy.Examples, or the path of a CSV, JSONL or Parquet file",
    )


def _records(data: Any) -> Iterable[Any]:
    if isinstance(data, str | os.PathLike):
        return _read_file(Path(data))
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a DataFrame, without importing pandas
        return [_plain(row) for row in data.to_dict("records")]
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise DataError(
            f"expected rows, got a {type(data).__name__}",
            hint="pass a list of dicts, a DataFrame, dspy.Examples, or the path of a CSV, JSONL or Parquet file",
        )
    return data


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn NumPy scalars into Python ones, so that prompts and JSON do not depend on where a row came from; arrays stay."""
    return {str(k): v.item() if type(v).__module__ == "numpy" and getattr(v, "ndim", 1) == 0 else v for k, v in row.items()}


def _read_file(path: Path) -> Iterable[Any]:
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise DataError(f"no file {str(path)!r}", hint=f"{near}paths are relative to {Path.cwd().name!r}, the kernel's folder")
    kind = path.suffix.lower().lstrip(".")
    if kind in {"jsonl", "ndjson"}:
        return _read_jsonl(path)
    import pandas as pd

    readers: dict[str, Callable[[Path], Any]] = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}
    if kind not in readers:
        raise DataError(f"cannot read {path.name!r}: unknown kind {kind!r}", hint="use a .csv, .jsonl, .json or .parquet file")
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingDependencyError(f"{path.name}: Parquet needs the package 'pyarrow'", hint="pip install pyarrow")
    if kind == "parquet":
        return _read_parquet(path)
    try:
        frame = readers[kind](path)
    except Exception as error:
        raise DataError(
            f"cannot read {path.name!r}: {error}", hint=f"open it with pandas.read_{kind} to see what is wrong"
        ) from error
    return [_plain(row) for row in frame.to_dict("records")]


def _read_parquet(path: Path) -> Iterable[Any]:
    """Yield the rows, a batch at a time in memory; pandas' own index columns are no columns of the user's."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise DataError(
            f"cannot read {path.name!r}: {error}", hint="open it with pandas.read_parquet to see what is wrong"
        ) from error


def _read_jsonl(path: Path) -> Iterable[Any]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{path.name} line {number} is not JSON: {error}", hint="each line is one JSON object") from error
