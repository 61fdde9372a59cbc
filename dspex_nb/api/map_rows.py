"""What a pipeline's map gives of each row: a dict, a line of a file, a row of a DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dspex_nb.api.mapping import TableRow
from dspex_nb.pipelines import PipelineSpec
from dspex_nb.runs.mapping import RowResult
from dspex_nb.runs.row_files import RowFile


class _Shape:
    """What the rows of a map's result hold, found in the pipeline's graph once and not for each row."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._written = frozenset(name for name, ref in spec.fields.items() if ref.step)
        self._result = tuple(spec.result)

    def record(self, row: TableRow) -> dict[str, Any]:
        """Return a row: the data's columns, the result's fields, the error; see `Pipeline.map`."""
        example, result = row.example, row.result
        return {
            **{self._given(name): value for name, value in example.items()},
            **{name: _field(result, name) for name in self._shown(example)},
            "error": None if result.error is None else _short(result.error),
        }

    def columns(self, data: Iterable[str]) -> list[str]:
        """Return the names in a row of data that has these columns."""
        names = list(data)
        return [*map(self._given, names), *self._shown(names), "error"]

    def _given(self, name: str) -> str:
        return f"expected_{name}" if name in self._written else name

    def _shown(self, names: Iterable[str]) -> dict[str, None]:
        return dict.fromkeys((*(name for name in names if name in self._written), *self._result))


def records_of(spec: PipelineSpec, rows: Iterable[TableRow], *, numbered: bool) -> Iterator[dict[str, Any]]:
    """Yield each row as a dict; `numbered` ones begin with the row's number."""
    shape = _Shape(spec)
    for row in rows:
        yield {**({"row": row.index} if numbered else {}), **shape.record(row)}


def frame_of(spec: PipelineSpec, records: Iterable[dict[str, Any]], data: Any, *, numbered: bool) -> Any:
    """Return the rows as a DataFrame with the index of `data`, where that is one and they are in its order."""
    import pandas as pd

    rows, is_frame = list(records), hasattr(data, "index") and hasattr(data, "columns")
    made = pd.DataFrame(rows, columns=None if rows else _Shape(spec).columns(data.columns if is_frame else ()))
    if numbered and rows:
        made = made.set_index("row")
    elif is_frame:
        made.index = data.index
    return made


def map_to(file: RowFile, spec: PipelineSpec, rows: Callable[..., Iterable[TableRow]]) -> Path:
    """Write the rows to a file as they end, but those that it holds already; `rows(done=…)` runs the others."""
    shape = _Shape(spec)
    count = 0

    def done(index: int, inputs: dict[str, Any]) -> bool:
        nonlocal count
        count = index + 1
        return file.has(index, inputs)

    try:
        for row in rows(done=done):
            file.add(row.index, row.inputs, shape.record(row))
    except BaseException:
        file.close()
        raise
    return file.finish(count)


def _field(result: RowResult, name: str) -> Any:
    if result.prediction is None:
        return None
    return result.prediction.get(name, result.prediction.fields.get(name))


def _short(error: BaseException) -> str:
    return str(getattr(error, "message", "") or f"{type(error).__name__}: {error}")
