"""Programs on disk, in the JSON that DSPy's own `save` and `load` write and read."""

from __future__ import annotations

import datetime as dt
import enum
import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dspex_nb.errors import DataError


def write_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a program's state with the metadata that DSPy's `load` wants.

    Raises:
        DataError: The path does not end in .json, or a demo holds a value that JSON cannot.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise DataError(f"{path.name}: a program is saved as JSON", hint=f"save to {path.with_suffix('.json').name!r}")
    try:
        text = json.dumps({**state, "metadata": metadata()}, indent=2, ensure_ascii=False, default=plain)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path.name}: cannot be saved: {error}", hint="keep demos to plain data") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)  # a crash while saving leaves the old program, not half of the new one


def read_state(path: str | Path) -> dict[str, Any]:
    """Read a program's state, without its metadata.

    Raises:
        DataError: There is no such file, it is no JSON, or it is a pickle.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        raise DataError(f"{path.name}: pickled programs are not loaded, they can run any code", hint="save it as .json in DSPy")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise DataError(f"{path.name}: is no JSON: {error}", hint="give a file that `save` wrote") from error
    if not isinstance(state, dict):
        raise DataError(f"{path.name}: holds no program", hint="give a file that `save` wrote")
    state.pop("metadata", None)
    return state


def metadata() -> dict[str, Any]:
    """Return what DSPy compares when it loads: exactly these three versions, it fails on others."""
    return {
        "dependency_versions": {
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "dspy": version("dspy"),
            "cloudpickle": ".".join(version("cloudpickle").split(".")[:2]),
        }
    }


def plain(value: Any) -> Any:
    """Return a JSON-able stand-in for a value inside a demo, as DSPy writes it: models as dicts, enums by value."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    raise TypeError(f"{value!r:.60} of type {type(value).__name__} has no JSON form")


def jsonable(value: Any) -> Any:
    """Return a copy of `value` in plain JSON types.

    Raises:
        DataError: It holds something that JSON cannot.
    """
    try:
        return json.loads(json.dumps(value, default=plain))
    except (TypeError, ValueError) as error:
        raise DataError(f"a demo cannot be saved: {error}", hint="keep demos to plain data") from error
