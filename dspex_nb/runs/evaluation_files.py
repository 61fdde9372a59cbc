"""An evaluation on disk, so that one which was stopped or killed goes on where it was, and any can be opened again.

    <home>/evaluations/<run id>/
        about.json      its name, metrics, program's digest, and how many rows there are
        data.jsonl      a line a row: inputs and labels
        rows.jsonl      a line a row as it ends; before its first use, a line a message of a prompt

Lines are only added. A line that a kill cut off is not there; a later line of the same row counts in place of an earlier one.
What was a model or a dataclass comes back as the data it held; of a file, an image or another large array a digest is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import orjson

from dspex_nb.errors import DataError
from dspex_nb.examples import Example
from dspex_nb.messages import Usage
from dspex_nb.runs.evaluation import ScoredRow
from dspex_nb.runs.row_files import plain
from dspex_nb.runs.traces import Messages, TracedCall
from dspex_nb.signatures.media import is_pixels

_KEPT = 200
_WRITTEN_OUT = 1000  # numbers or bytes: of fewer they are written out
_ID = re.compile(r"[0-9a-f]{6,40}")
_USAGE = ("prompt_tokens", "completion_tokens", "calls", "cache_hits")


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What an evaluation is of.

    Attributes:
        metrics: Their names.
        lower: Those of which less is better.
        program: A digest of the program and the model; empty where it has none.
        rows: How many examples.
        whole: Whether the data comes back from its file as it was; else it must be given again.
        elapsed_s: Seconds its attempts have taken.
    """

    run_id: str
    name: str
    metrics: tuple[str, ...]
    lower: tuple[str, ...] = ()
    program: str = ""
    rows: int = 0
    whole: bool = True
    n_jobs: int = 0
    timeout_s: float | None = None
    elapsed_s: float = 0.0


class EvaluationFiles:
    """One evaluation's folder. A disk that refuses ends no evaluation: `fault` says what is not kept.

    Args:
        home: The folder of all evaluations.
        run_id: The evaluation.
    """

    def __init__(self, home: Path, run_id: str) -> None:
        self.folder, self.run_id, self.fault = home / run_id, run_id, ""
        self._messages = Messages()
        self._file: TextIO | None = None
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether there is such an evaluation."""
        return bool(_ID.fullmatch(self.run_id)) and (self.folder / "about.json").exists()

    def begin(self, about: About, examples: Sequence[Example]) -> About:
        """Write what it is of, and its data; returns the first as it was written."""
        with self._careful():
            self.folder.mkdir(parents=True, mode=0o700)
            whole = True
            with (self.folder / "data.jsonl").open("w", encoding="utf-8") as file:
                for example in examples:
                    line = _of(example)
                    file.write(line)
                    whole = whole and _same(json.loads(line), {"inputs": example.inputs(), "labels": example.labels()})
            about = dataclasses.replace(about, whole=bool(whole))
            self.note(about)
        return about

    def holds(self, examples: Sequence[Example]) -> bool:
        """Say whether these are its examples."""
        try:
            kept = (self.folder / "data.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return [json.loads(line) for line in kept] == [json.loads(_of(example)) for example in examples]

    def note(self, about: About) -> None:
        """Write what it is of, in place of what was written."""
        with self._careful():
            partial = self.folder / ".about.json"
            partial.write_text(json.dumps(dataclasses.asdict(about)), encoding="utf-8")
            partial.replace(self.folder / "about.json")

    def about(self) -> About:
        """Return what it is of.

        Raises:
            DataError: There is no such evaluation, or its file is damaged.
        """
        try:
            found = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
            known = {one.name for one in dataclasses.fields(About)}
            about = About(**{name: value for name, value in found.items() if name in known})
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"evaluation {self.run_id} cannot be read: {error}", hint="dx.run_list() shows all runs") from error
        return dataclasses.replace(about, metrics=tuple(about.metrics), lower=tuple(about.lower))

    def data(self) -> list[Example]:
        """Return the examples."""
        rows = [(dict(line["inputs"]), dict(line["labels"])) for line in _lines(self.folder / "data.jsonl")]
        return [Example({**inputs, **labels}, inputs) for inputs, labels in rows]

    def add(self, row: ScoredRow) -> None:
        """Write a row; it is with the system when this returns."""
        with self._lock, self._careful():
            if self._file is None:
                path = self.folder / "rows.jsonl"
                _trim(path)
                self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "a", encoding="utf-8")
            calls = [{**_call(call), "messages": [self._name(message) for message in call.messages]} for call in row.calls]
            taken = {name: getattr(row.usage, name) for name in _USAGE}
            record = {
                "row": row.index, "outputs": row.outputs, "scores": row.scores, "latency_s": row.latency_s, "cost": row.cost,
                "cached": row.cached, "error": row.error, "usage": taken, "inner": row.inner, "calls": calls,
            }  # fmt: skip
            self._file.write(_line(record))
            self._file.flush()

    def _name(self, message: Mapping[str, Any]) -> str:
        name, kept, is_new = self._messages.keep(message)
        if is_new and self._file is not None:
            self._file.write(_line({"message": name, "of": kept}))
        return name

    def rows(self, examples: Sequence[Example]) -> list[ScoredRow]:
        """Return the rows that ended, those with an error too, beside their examples."""
        found = dict[int, ScoredRow]()
        for line in _lines(self.folder / "rows.jsonl"):
            if "message" in line:
                self._messages.put(line["message"], line["of"])
            elif line["row"] < len(examples):
                found[line["row"]] = self._row(line, examples[line["row"]])
        return [found[index] for index in sorted(found)]

    def _row(self, line: Mapping[str, Any], example: Example) -> ScoredRow:
        calls = tuple(self._read(call) for call in line["calls"])
        return ScoredRow(
            line["row"], example.inputs(), example.labels(), line["outputs"], line["scores"], line["latency_s"], line["cost"],
            line["cached"], line["error"], Usage(**line["usage"]), line["inner"], calls,
        )  # fmt: skip

    def _read(self, call: Mapping[str, Any]) -> TracedCall:
        messages, answers = tuple(map(self._messages.get, call["messages"])), tuple(call["answers"])
        return TracedCall(**{**call, "messages": messages, "answers": answers})

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                with self._careful():
                    self._file.close()
                self._file = None

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, TypeError, RecursionError) as error:  # a full disk, or a value that JSON cannot hold
            self.fault = f"rows are not kept on disk: {getattr(error, 'strerror', None) or error}"


def sweep(home: Path, keep: int = _KEPT) -> None:
    """Delete all but the newest evaluations."""
    with contextlib.suppress(OSError):
        folders = sorted((one for one in home.iterdir() if _ID.fullmatch(one.name)), key=lambda one: one.stat().st_mtime)
        for folder in folders[:-keep]:
            shutil.rmtree(folder, ignore_errors=True)


def newest(home: Path) -> str:
    """Return the id of the newest evaluation, empty where there is none."""
    with contextlib.suppress(OSError):
        found = [one for one in home.iterdir() if _ID.fullmatch(one.name) and (one / "about.json").exists()]
        return max(found, key=lambda one: (one / "data.jsonl").stat().st_mtime).name if found else ""
    return ""


def _of(example: Example) -> str:
    return _line({"inputs": example.inputs(), "labels": example.labels()})


def _same(read: Any, given: Any) -> bool:
    """Say whether what was read is what was given; arrays and tables, whose `==` is no answer, never come back."""
    if isinstance(read, dict):
        return isinstance(given, dict) and read.keys() == given.keys() and all(_same(read[name], given[name]) for name in read)
    if isinstance(read, list):
        return isinstance(given, list) and len(read) == len(given) and all(map(_same, read, given))
    return (given is None or isinstance(given, str | int | float)) and bool(read == given)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; files, pixels and other large arrays as what they are, with a digest to tell them apart."""
    if isinstance(value, bytes | bytearray | memoryview) and len(value) > _WRITTEN_OUT:
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if not (is_pixels(value) and hasattr(value, "tobytes")) or value.size in range(_WRITTEN_OUT):
        return plain(value)
    what = f"{value.dtype} {value.shape}" if hasattr(value, "dtype") else f"{value.mode} {value.size}"
    content = repr(value.tolist()).encode() if getattr(getattr(value, "dtype", None), "hasobject", False) else value.tobytes()
    return {"array": what, "sha256": hashlib.sha256(content).hexdigest()}


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, default=_plain, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") + "\n"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of a file; it ends at one that a kill cut off."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for raw in file:
            try:
                line = _read(raw) if raw.endswith(b"\n") else None
            except ValueError:
                line = None
            if not isinstance(line, dict):
                return
            yield line


def _read(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)  # three times as fast as json
    except ValueError:  # it refuses NaN
        return json.loads(raw)


def _trim(path: Path) -> None:
    """Take away a last line that a kill cut off, before more is added behind it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        whole = 0
        for raw in file:
            whole += len(raw) if raw.endswith(b"\n") else 0
        file.truncate(whole)


def _call(call: TracedCall) -> dict[str, Any]:
    return {one.name: getattr(call, one.name) for one in dataclasses.fields(call) if one.name != "messages"}
