"""What makes a `dspy.Module` object again: its class, its signature, its options, its state."""

from __future__ import annotations

import inspect
from typing import Any

import dspy

from dspex_nb.bridge.conversion import from_dspy
from dspex_nb.signatures import Signature

Recipe = tuple[type, Signature | None, dict[str, Any], dict[str, Any] | None]


def module_recipe(module: Any) -> Recipe | None:
    """Return what makes `module` again, None where its object holds more than can be told.

    DSPy's `Predict` and `ChainOfThought` are made from their signature. Any other class is, where its constructor needs nothing
    and gives an object that differs in its predictors' states only.
    """
    cls = type(module)
    if cls is dspy.Predict:
        return cls, from_dspy(module.signature), dict(module.config), _state(module, dspy.Predict(module.signature))
    if cls is dspy.ChainOfThought:
        inner = from_dspy(module.predict.signature).delete("reasoning")
        return cls, inner, dict(module.predict.config), _state(module, None)
    if any(one.default is one.empty and one.kind not in _OPEN for one in list(inspect.signature(cls).parameters.values())):
        return None
    try:
        fresh = cls()
        same = _held(fresh) == _held(module) and fresh.dump_state().keys() == module.dump_state().keys()
    except Exception:  # noqa: BLE001 - the user's own constructor and comparisons
        return None
    return (cls, None, {}, _state(module, fresh)) if same else None


_OPEN = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _state(module: Any, fresh: Any) -> dict[str, Any] | None:
    """Return the state where it says more than a fresh object's."""
    state: dict[str, Any] = module.dump_state()
    learned = any(predictor.demos for predictor in module.predictors()) or fresh is None or fresh.dump_state() != state
    return state if learned else None


def _held(module: Any) -> dict[str, Any]:
    """Return what an object holds beside its predictors: what a state does not."""
    kept = ("callbacks", "history", "_compiled")
    return {name: value for name, value in vars(module).items() if not isinstance(value, dspy.Module) and name not in kept}
