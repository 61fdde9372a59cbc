"""What crosses from the kernel to a study's process, and the files the two share in the study's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dspex_nb.bridge import StudyPlan
from dspex_nb.errors import StudyError
from dspex_nb.runs.budgets import Budget

TASK, BEST, LOG, START, KEPT = "task.pkl", "best.json", "log.txt", "start.json", "study.json"


@dataclass(frozen=True, slots=True)
class StudyTask:
    """A study to run: the plan, and how to make its LM and cache there. It holds no key.

    `resumed` says that it was begun before: what it found then is kept until it finds better.
    """

    run_id: str
    plan: StudyPlan
    client_class: Any
    client_state: Mapping[str, Any]
    cache_options: Mapping[str, Any] | None
    store_path: str
    budget: Budget | None = None
    resumed: bool = False


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


def keep_plan(folder: Path, plan: StudyPlan, budget: Budget | None, metric: str | None) -> None:
    """Keep what a later kernel needs to resume the study and JSON can say: no code, no objects.

    What it cannot say is named in `brought`: the user brings it again.
    """
    options = {name: value for name, value in plan.options.items() if _is_plain(value)}
    brought = [name for name in plan.options if name not in options]
    sets = {name: _plain_rows(getattr(plan, name)) for name in ("trainset", "valset")}
    kept = {
        "optimizer": plan.optimizer,
        "options": options,
        "brought": brought + [name for name, rows in sets.items() if rows is None and getattr(plan, name)],
        "metric": metric,
        "inputs": list(plan.inputs),
        "adapter": plan.adapter if isinstance(plan.adapter, str) else getattr(plan.adapter, "name", None),
        "seed": plan.seed,
        "n_jobs": plan.n_jobs,
        "accelerate": plan.accelerate,
        "budget": None if budget is None else asdict(budget),
        **sets,
    }
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / KEPT, json.dumps(kept, ensure_ascii=False))


def kept_plan(folder: Path) -> dict[str, Any]:
    """Return what `keep_plan` wrote, empty if nothing is there."""
    try:
        found: dict[str, Any] = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def check_start(folder: Path, state: Mapping[str, Any]) -> None:
    """Keep the state that the study starts from; where it was begun before, compare.

    Raises:
        StudyError: It is another program now: the study could not come to the same end.
    """
    text = json.dumps(state, sort_keys=True, default=str)
    path = folder / START
    if not path.exists():
        _write(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise StudyError(
            "this is not the program that the study tunes: its instructions, fields or demos differ",
            hint="bring the program as it was when the study began, or start a new study",
        )


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _plain_rows(rows: Sequence[Any] | None) -> list[dict[str, Any]] | None:
    """Return rows as JSON says them, None where it cannot say one exactly."""
    if not rows:
        return None
    found = [dict(row.items()) for row in rows]
    return found if _is_plain(found) else None


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def write_best(folder: Path, state: Mapping[str, Any], score: float | None, trial: int | None) -> None:
    """Keep the best program so far; a crash while writing leaves the one before."""
    _write(folder / BEST, json.dumps({"state": state, "score": score, "trial": trial}, default=str))


def read_best(folder: Path) -> dict[str, Any]:
    """Return `{"state", "score", "trial"}`, the state None where nothing was written."""
    try:
        found: dict[str, Any] = json.loads((folder / BEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"state": None, "score": None, "trial": None}
    return found
