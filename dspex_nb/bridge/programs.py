"""Programs for DSPy's optimizers out of native ones, and adapters by name."""

from __future__ import annotations

from typing import Any

import dspy

from dspex_nb.bridge.conversion import to_dspy
from dspex_nb.bridge.plans import ProgramRecipe, recipe_of
from dspex_nb.errors import AdapterError, did_you_mean

_MODULES = {"predict": "Predict", "chain_of_thought": "ChainOfThought"}


def program_for(program: Any) -> Any:
    """Return a `dspy.Module` that optimizers tune: a module as it is, or the twin of a native program or recipe.

    Its state loads back into the native program: `native.load_state(best)`.

    Raises:
        OptimizerError: It is neither.
    """
    if isinstance(program, dspy.Module):
        return program
    recipe = program if isinstance(program, ProgramRecipe) else recipe_of(program)
    module = getattr(dspy, _MODULES[recipe.kind])(to_dspy(recipe.signature), **recipe.options)
    if recipe.state is not None:
        module.load_state(dict(recipe.state))
    elif recipe.demos:
        for predictor in module.predictors():
            predictor.demos = [dspy.Example(**demo) for demo in recipe.demos]
    return module


def dspy_adapter(adapter: Any) -> Any:
    """Return the `dspy.Adapter` for a name, one of our adapters or one of DSPy's own; None for None.

    Raises:
        AdapterError: No adapter is called so.
    """
    if adapter is None or isinstance(adapter, dspy.Adapter):
        return adapter
    from dspy.adapters.baml_adapter import BAMLAdapter

    from dspex_nb.bridge.compact import CompactAdapter

    known = {
        "chat": dspy.ChatAdapter,
        "json": dspy.JSONAdapter,
        "compact": CompactAdapter,
        "xml": dspy.XMLAdapter,
        "baml": BAMLAdapter,
    }
    name = adapter if isinstance(adapter, str) else getattr(adapter, "name", "")
    if name not in known:
        hint = f"{did_you_mean(str(name), known)}adapters for DSPy steps: {', '.join(known)}"
        raise AdapterError(f"there is no adapter {name!r}", hint=hint)
    return known[name]()
