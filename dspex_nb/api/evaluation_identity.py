"""What an evaluation is of: the program, its metrics and the model, as a text that tells whether rows would come out the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.api.evaluation_metrics import is_builtin
from dspex_nb.api.programs import is_dspy_module, lm_of
from dspex_nb.metrics import Metric
from dspex_nb.modules import Predict
from dspex_nb.runs.code_keys import key_of
from dspex_nb.runs.contents import Unkeyable


def identity_of(program: Any, metrics: Sequence[Metric], now: Session) -> str:
    """Return a text that is equal where rows would come out the same; empty where that cannot be told."""
    model = getattr(lm_of(program, now), "identity", "")
    parts = [*_of_program(program, now), model, str(getattr(now.adapter, "name", now.adapter))]
    try:
        parts += [key_of(metric.score, data=False) for metric in metrics if not is_builtin(metric.name)]
    except Unkeyable:
        return ""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest() if all(parts[:1]) else ""


def _of_program(program: Any, now: Session) -> list[str]:
    """Return what a program is, as texts; the first is empty where that cannot be told."""
    if hasattr(program, "spec") and hasattr(program, "identity"):
        return [program.identity(now)]
    try:
        if isinstance(program, Predict):
            state = json.dumps(program.dump_state(), sort_keys=True, default=str)
            return [
                program.kind,
                program.signature.digest,
                state,
                repr(program.adapter),
                repr(sorted(program.lm_options.items())),
            ]
        if is_dspy_module(program):
            return [key_of(type(program), data=False), json.dumps(program.dump_state(), sort_keys=True, default=str)]
        return [key_of(program, data=False)]
    except Unkeyable:
        return [""]
