"""What a study made, as a program: its best state in a copy of the user's program, and what changed in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.accelerating import accelerate
from dspex_nb.api.programs import is_dspy_module
from dspex_nb.errors import StudyError
from dspex_nb.modules import Predict
from dspex_nb.runs import studies as running
from dspex_nb.store import TrialRow


class StudyDiff:
    """What a trial changed in the program; shows itself in a cell, prints as text."""

    def __init__(self, trial: TrialRow, against: TrialRow) -> None:
        from dspex_nb.views.studies import program_diff

        self.info = program_diff(trial, against)

    def __str__(self) -> str:
        from dspex_nb.views.studies import program_diff_text

        return program_diff_text(self.info)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from dspex_nb.views.studies import program_diff_html

        return program_diff_html(self.info)


def diff_of(record: running.Study, trial: int | None, against: int | str) -> StudyDiff:
    """Compare a trial, the best one if None, with another, its `"parent"` or the `"start"`.

    Raises:
        StudyError: One of them is not there.
    """
    rows = {row.trial: row for row in record.trial_rows()}
    number = record.best_trial if trial is None else trial
    chosen = None if number is None else rows.get(number)
    if chosen is None:
        raise StudyError(f"study {record.id} has no trial {'yet' if number is None else number}", hint="study.trials lists them")
    if against == "start":
        other = next((row for row in rows.values() if row.kind == "start"), None)
    elif against == "parent":
        other = None if chosen.parent is None else rows.get(chosen.parent)
    else:
        other = rows.get(int(against))
    if other is None:
        raise StudyError(f"trial {chosen.trial} has no {against} to compare with", hint="name a trial: study.diff(against=0)")
    return StudyDiff(chosen, other)


def best_program(record: running.Study, program: Any, state: Mapping[str, Any], now: Session) -> Any:
    """Return the best program: a copy of the user's with the state loaded, or what the optimizer made around it."""
    kind = next((row.kind for row in record.trial_rows() if row.trial == record.best_trial), "")
    plan = record.plan
    several = isinstance(program, list | tuple)
    if kind == "result" and running.makes_a_program(record.info.get("optimizer", "")):
        if plan is None:
            raise StudyError(
                f"the best of study {record.id} is a program that its optimizer made, which a later kernel cannot load",
                hint="run the optimizer again: it makes no LM calls",
            )
        from dspex_nb.bridge import rebuilt

        return accelerate(rebuilt(plan))
    if several:
        return copy.deepcopy(program[record.best_trial or 0])
    tuned = program.deepcopy() if hasattr(program, "deepcopy") else copy.deepcopy(program)
    return load_into(tuned, state, now)


def load_into(program: Any, state: Mapping[str, Any], now: Session) -> Any:
    """Load a state; where it names a model of its own, which training made, the program asks that."""
    model = _model_of(state)
    program.load_state(_without_lm(state) if model else state)
    if model and now.lm is not None:
        from dspex_nb.bridge import BridgeLM
        from dspex_nb.bridge.finetuning import client_of_model

        client = client_of_model(now.lm, model)
        if isinstance(program, Predict):
            program.lm = client
        elif is_dspy_module(program):
            program.set_lm(BridgeLM(client, cache=now.cache))
    return program


def _model_of(state: Mapping[str, Any]) -> str | None:
    if "signature" in state:
        lm = state.get("lm")
        return str(lm["model"]) if isinstance(lm, Mapping) and lm.get("model") else None
    return next(filter(None, (_model_of(one) for one in state.values() if isinstance(one, Mapping))), None)


def _without_lm(state: Mapping[str, Any]) -> dict[str, Any]:
    if "signature" in state:
        return {**state, "lm": None}
    return {name: _without_lm(one) if isinstance(one, Mapping) and name != "metadata" else one for name, one in state.items()}
