"""Programs for DSPy's optimizers out of native ones, and adapters by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from dspex_nb.bridge.compact import CompactAdapter
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


def dspy_adapter(adapter: Any, lm: Any = None) -> Any:
    """Return the `dspy.Adapter` for a name, one of our adapters or one of DSPy's own; None for None.

    Args:
        adapter: What to find it by.
        lm: The model that reads the answers in `"two_step"`; the one that writes them, unless the user makes the adapter.

    Raises:
        AdapterError: No adapter is called so.
    """
    if adapter is None or isinstance(adapter, dspy.Adapter):
        return adapter
    name = adapter if isinstance(adapter, str) else getattr(adapter, "name", "")
    if name not in _ADAPTERS:
        hint = f"{did_you_mean(str(name), _ADAPTERS)}adapters for DSPy steps: {', '.join(_ADAPTERS)}"
        raise AdapterError(f"there is no adapter {name!r}", hint=hint)
    if name == "two_step":
        return dspy.TwoStepAdapter(lm)
    return _ADAPTERS[name](**{option: value for option, value in _options(adapter) if value is not None})


def _baml() -> Any:
    from dspy.adapters.baml_adapter import BAMLAdapter

    return BAMLAdapter()


_ADAPTERS: dict[str, Callable[..., Any]] = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "compact": CompactAdapter,
    "xml": dspy.XMLAdapter,
    "two_step": dspy.TwoStepAdapter,
    "baml": _baml,
}


def _options(adapter: Any) -> list[tuple[str, Any]]:
    """Return what one of our chat or json adapters was made with; DSPy's take the same under the same names."""
    names = ("use_native_function_calling", "parallel_tool_calls", "use_json_adapter_fallback")
    return [(name, getattr(adapter, name, None)) for name in names]
