"""A map's results as a file that grows row by row, so that a map which was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dspex_nb.errors import DataError, MissingDependencyError

ROW, KEY = "row", "key"
_BATCH = 2000


class RowFile:
    """Rows of results on disk: JSON lines as they come, and Parquet made of them at the end, which becomes lines to go on.

    Each line says which row it is, and a key of what the row's result depends on: a row that is there with its key and without
    an error is not done again.

    Args:
        path: Ends in `.jsonl` or `.parquet`.
        digest: Of the program and the model.

    Raises:
        DataError: Another ending, or a file that holds something else.
    """

    def __init__(self, path: str | Path, digest: str) -> None:
        self.path, self._digest = Path(path), digest
        if self.path.suffix not in (".jsonl", ".parquet"):
            raise DataError(f"{self.path.name}: results are written as .jsonl or .parquet", hint=f"out='{self.path.stem}.jsonl'")
        self.lines = self.path if self.path.suffix == ".jsonl" else self.path.with_name(f"{self.path.name}.rows.jsonl")
        self._done: dict[int, str] = {}
        self._seen = 0
        if self.path.suffix == ".parquet":
            self._take_apart(_arrow())
        if self.lines.exists():
            self._recover()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.lines.open("a", encoding="utf-8")

    def __len__(self) -> int:
        """Return how many rows are done."""
        return len(self._done)

    def _take_apart(self, pa: Any) -> None:
        """Make lines of a Parquet file that an earlier map finished, unless a later one was at it already."""
        if not self.path.exists():
            return
        try:
            file = pa.parquet.ParquetFile(self.path)
        except pa.ArrowInvalid as error:
            raise _something_else(self.path, str(error)) from None
        with file:
            if not {ROW, KEY} <= set(file.schema_arrow.names):
                raise _something_else(self.path, ", ".join(file.schema_arrow.names))
            if self.lines.exists():
                return
            partial = self.lines.with_name(f".{self.lines.name}.partial")
            with partial.open("w", encoding="utf-8") as out:
                for batch in file.iter_batches(_BATCH):
                    out.writelines(f"{json.dumps(row, default=plain, ensure_ascii=False)}\n" for row in batch.to_pylist())
        partial.replace(self.lines)

    def _recover(self) -> None:
        """Read which rows are done; a last line that was cut off by a kill goes."""
        kept = 0
        with self.lines.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    row, key = int(entry[ROW]), str(entry[KEY])
                except (ValueError, TypeError, KeyError):
                    raise _something_else(self.lines, repr(line[:60])) from None
                kept += len(line)
                self._seen += 1
                if entry.get("error") is None:
                    self._done[row] = key
                else:
                    self._done.pop(row, None)
        with self.lines.open("rb+") as file:
            file.truncate(kept)

    def key(self, inputs: Mapping[str, Any]) -> str:
        """Return the key of a row's result."""
        text = json.dumps(inputs, sort_keys=True, default=str, ensure_ascii=False)
        return hashlib.blake2b(f"{self._digest}\0{text}".encode("utf-8", "replace"), digest_size=10).hexdigest()

    def has(self, row: int, inputs: Mapping[str, Any]) -> bool:
        """Return whether a row is done."""
        return row in self._done and self._done[row] == self.key(inputs)

    def add(self, row: int, inputs: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write a row's result; it is with the system when this returns."""
        line = json.dumps({ROW: row, KEY: self.key(inputs), **record}, default=plain, ensure_ascii=False)
        self._file.write(f"{line}\n")
        self._file.flush()
        self._seen += 1
        if record.get("error") is None:
            self._done[row] = self.key(inputs)

    def close(self) -> None:
        """Close the file, whatever is in it so far."""
        self._file.close()

    def finish(self, rows: int) -> Path:
        """Close the file, put its rows in order where they are not, and return its path."""
        self.close()
        if self._seen != rows or not _in_order(self.lines):
            self._tidy(rows)
        if self.path != self.lines:
            _to_parquet(self.lines, self.path)
            self.lines.unlink()
        return self.path

    def _tidy(self, rows: int) -> None:
        """Keep the last result of each row of the data, by row; only where each begins is held in memory."""
        places: dict[int, int] = {}
        with self.lines.open("rb") as file:
            while line := file.readline():
                places[int(json.loads(line)[ROW])] = file.tell() - len(line)
            partial = self.lines.with_name(f".{self.lines.name}.partial")
            with partial.open("wb") as out:
                for row in sorted(place for place in places if place < rows):
                    file.seek(places[row])
                    out.write(file.readline())
        partial.replace(self.lines)


def _something_else(path: Path, found: str) -> DataError:
    return DataError(f"{path} holds something else than a map's rows: {found}", hint="name another file, or delete this one")


def _in_order(path: Path) -> bool:
    last = -1
    for entry in _entries(path):
        if entry[ROW] <= last:
            return False
        last = entry[ROW]
    return True


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for entry in _entries(path):
        batch.append(entry)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _arrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            "Parquet needs the package 'pyarrow'", hint="pip install pyarrow, or out='….jsonl'"
        ) from None
    return pa


def _to_parquet(lines: Path, path: Path) -> None:
    """Write the rows in batches; a first look finds the types, for an early batch may hold nothing but empty values."""
    pa = _arrow()
    schema = pa.schema([(ROW, pa.int64()), (KEY, pa.string())])
    texts: set[str] = set()
    for batch in _batches(lines):
        for name in {name: None for row in batch for name in row}:
            try:
                one = pa.schema([(name, pa.array([row.get(name) for row in batch]).type)])
                schema = pa.unify_schemas([schema, one], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError):  # values of several kinds in one column: as JSON texts
                texts.add(name)
    schema = pa.schema([pa.field(one.name, pa.string()) if one.name in texts else one for one in schema])
    partial = path.with_name(f".{path.name}.partial")
    with pa.parquet.ParquetWriter(partial, schema) as writer:
        for batch in _batches(lines):
            rows = [{name: _text(row.get(name)) if name in texts else row.get(name) for name in schema.names} for row in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    partial.replace(path)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return a value that JSON has no form for as data: what models' classes hold, else its text."""
    for form in ("model_dump", "as_dict", "to_dict", "isoformat", "tolist"):
        if hasattr(value, form) and not isinstance(value, type):
            return getattr(value, form)()
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
