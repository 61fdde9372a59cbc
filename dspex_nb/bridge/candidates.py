"""A candidate program as plain data: its state, a key that is equal for equal states, and what views show of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_STATE_BYTES = 64_000
_VALUE_CHARS = 2_000


def state_of(program: Any) -> dict[str, Any]:
    """Return DSPy's saved state of a program as plain JSON; an optimizer's wrapper without one gives an empty state."""
    try:
        state: dict[str, Any] = json.loads(json.dumps(program.dump_state(), default=str))
    except Exception:  # noqa: BLE001 - a candidate that cannot be written down can still be scored
        return {}
    return state


def without_lm(state: dict[str, Any], model: str) -> dict[str, Any]:
    """Return a state without the study's own LM in it, which BetterTogether and SIMBA write into their candidates."""
    if "signature" in state:
        lm = state.get("lm")
        return {**state, "lm": None} if isinstance(lm, dict) and lm.get("model") == model else state
    return {name: without_lm(one, model) if isinstance(one, dict) else one for name, one in state.items()}


def canonical(state: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal states."""
    return json.dumps(state, sort_keys=True, default=str)


def bounded(state: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state if an event may carry it."""
    return state if len(json.dumps(state)) <= _STATE_BYTES else None


def predictor_states(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the predictors' states by name; a program that is one predictor calls it `predict`."""
    if "signature" in state:
        return {"predict": dict(state)}
    return {name: one for name, one in state.items() if isinstance(one, dict) and isinstance(one.get("signature"), dict)}


def summary(state: Mapping[str, Any], start: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return counts of demos, the instructions, each predictor's own, and a short name for what the candidate is."""
    predictors = predictor_states(state)
    demos = [demo for one in predictors.values() for demo in one.get("demos", [])]
    made = sum(bool(demo.get("augmented")) for demo in demos)
    instructions = {name: str(one["signature"].get("instructions", "")) for name, one in predictors.items()}
    parts = [f"{made} bootstrapped"] * bool(made) + [f"{len(demos) - made} labelled"] * bool(len(demos) - made)
    label = f"{' + '.join(parts)} demos" if parts else "zero-shot"
    if start is not None and instructions != _instructions(start):
        label = f"new instructions, {label}" if parts else "new instructions"
    return {
        "label": label,
        "demos": len(demos),
        "bootstrapped": made,
        "instructions": "\n\n".join(instructions.values()),
        "predictors": _shown(predictors),
    }


def _instructions(state: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(one["signature"].get("instructions", "")) for name, one in predictor_states(state).items()}


def _shown(predictors: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    shown = {
        name: {
            "instructions": str(one["signature"].get("instructions", "")),
            "demos": [_short(demo) for demo in one.get("demos", [])],
        }
        for name, one in predictors.items()
    }
    if len(json.dumps(shown)) > _STATE_BYTES:
        return {name: {"instructions": one["instructions"][:_VALUE_CHARS], "demos": []} for name, one in shown.items()}
    return shown


def _short(demo: Mapping[str, Any]) -> dict[str, Any]:
    """Return a demo's fields, long texts cut."""
    return {name: f"{value[:_VALUE_CHARS]}…" if _is_long(value) else value for name, value in demo.items() if name != "augmented"}


def _is_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > _VALUE_CHARS
