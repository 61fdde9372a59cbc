"""What crosses from the kernel to a study's process, and the files the two share in the study's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_nb.bridge import StudyPlan
from dspex_nb.errors import StudyError

TASK, BEST, LOG = "task.pkl", "best.json", "log.txt"


@dataclass(frozen=True, slots=True)
class StudyTask:
    """A study to run: the plan, and how to make its LM and cache there. It holds no key."""

    run_id: str
    plan: StudyPlan
    client_class: Any
    client_state: Mapping[str, Any]
    cache_options: Mapping[str, Any] | None
    store_path: str


def write_task(folder: Path, task: StudyTask) -> None:
    """Write the task for this kernel's own child, readable by this user only.

    Raises:
        StudyError: A part of it cannot cross to another process.
    """
    import cloudpickle

    try:
        content = cloudpickle.dumps(task)
    except Exception as error:
        raise StudyError(
            f"the study cannot cross to its own process: {type(error).__name__}: {error}",
            hint="the program, the metric or the data hold something bound to this kernel, such as an open file or a lock",
        ) from error
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(folder / TASK, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def take_task(folder: Path) -> StudyTask:
    """Read the task and delete it: code must not lie about in files."""
    import cloudpickle

    path = folder / TASK
    content = path.read_bytes()
    path.unlink()
    task: StudyTask = cloudpickle.loads(content)  # written by our own parent a moment ago, for us alone
    return task


def write_best(folder: Path, state: Mapping[str, Any], score: float | None, trial: int | None) -> None:
    """Keep the best program so far; a crash while writing leaves the one before."""
    partial = folder / f".{BEST}.partial"
    partial.write_text(json.dumps({"state": state, "score": score, "trial": trial}, default=str), encoding="utf-8")
    partial.replace(folder / BEST)


def read_best(folder: Path) -> dict[str, Any]:
    """Return `{"state", "score", "trial"}`, the state None where nothing was written."""
    try:
        found: dict[str, Any] = json.loads((folder / BEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"state": None, "score": None, "trial": None}
    return found
