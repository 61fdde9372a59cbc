"""Snapshots of studies: made by hand, row by row, or synthetic ones of any size, through a real store."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dspex_nb.store.rows import ExampleRow, TrialRow
from dspex_nb.views.studies import StudyColumns, StudyFacts

_spec = importlib.util.spec_from_file_location("synthetic_study", Path(__file__).parents[3] / "benchmarks" / "synthetic_study.py")
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)


def trial(number, score=None, *, kind="candidate", status="done", parent=None, info=None, **more):
    values = {
        "seq": number + 1, "best": score, "examples": 10, "errors": 0, "elapsed_s": 2.0, "at": 0.0, "calls": 10, "cache_hits": 0,
        "prompt_tokens": 100, "completion_tokens": 10, "cost": 0.01, "saved_cost": 0.0, **more,
    }  # fmt: skip
    told = {"label": f"tried {number}", "instructions": f"Do {number}.", "demos": 0, **(info or {})}
    return TrialRow(trial=number, kind=kind, status=status, score=score, parent=parent, info=told, **values)


def example(number, index, score, error=None):
    return ExampleRow(number, index, 1, score, error, 0.1)


def snapshot(trials, examples=(), **facts):
    columns = StudyColumns()
    columns.take_trials(trials)
    columns.take_examples(list(examples))
    return columns.snapshot(StudyFacts(**{"name": "Triage", "optimizer": "GEPA", "metric": "f1", "status": "running", **facts}))
