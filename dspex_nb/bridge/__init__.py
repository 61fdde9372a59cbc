"""The only room that imports dspy, and only when one of these names is first used."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex_nb.bridge.accelerate import accelerate_predictors
    from dspex_nb.bridge.assembling import RESERVED, Assembled, Part
    from dspex_nb.bridge.avatar import Avatar
    from dspex_nb.bridge.catalog import find_optimizer, optimizers
    from dspex_nb.bridge.compact import CompactAdapter
    from dspex_nb.bridge.conversion import from_dspy, to_dspy
    from dspex_nb.bridge.finetuning import StandInTrainer
    from dspex_nb.bridge.judges import Judge, asking
    from dspex_nb.bridge.lm import BridgeLM, Stopped
    from dspex_nb.bridge.media import as_dspy
    from dspex_nb.bridge.optimizing import check_options, make_optimizer, option_names
    from dspex_nb.bridge.plans import Inner, ProgramRecipe, StudyPlan, recipe_of
    from dspex_nb.bridge.programs import dspy_adapter, program_for
    from dspex_nb.bridge.recipes import module_recipe
    from dspex_nb.bridge.retrieving import retrieval_model, search_tool
    from dspex_nb.bridge.running import ModuleResult, run_module
    from dspex_nb.bridge.studying import StudyOutcome, StudyRun, rebuilt
    from dspex_nb.bridge.types import type_codec

# DSPy and LiteLLM refresh price lists over the network at first use; offline that costs seconds and a warning.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

_HOMES = {
    "BridgeLM": "lm",
    "CompactAdapter": "compact",
    "Inner": "plans",
    "Judge": "judges",
    "ModuleResult": "running",
    "ProgramRecipe": "plans",
    "Stopped": "lm",
    "StudyOutcome": "studying",
    "StudyPlan": "plans",
    "StudyRun": "studying",
    "Assembled": "assembling",
    "Part": "assembling",
    "RESERVED": "assembling",
    "accelerate_predictors": "accelerate",
    "as_dspy": "media",
    "asking": "judges",
    "dspy_adapter": "programs",
    "Avatar": "avatar",
    "StandInTrainer": "finetuning",
    "check_options": "optimizing",
    "find_optimizer": "catalog",
    "from_dspy": "conversion",
    "make_optimizer": "optimizing",
    "module_recipe": "recipes",
    "option_names": "optimizing",
    "optimizers": "catalog",
    "program_for": "programs",
    "rebuilt": "studying",
    "recipe_of": "plans",
    "retrieval_model": "retrieving",
    "run_module": "running",
    "search_tool": "retrieving",
    "to_dspy": "conversion",
    "type_codec": "types",
}

__all__ = [
    "RESERVED",
    "Assembled",
    "Avatar",
    "BridgeLM",
    "CompactAdapter",
    "Inner",
    "Judge",
    "ModuleResult",
    "Part",
    "ProgramRecipe",
    "StandInTrainer",
    "Stopped",
    "StudyOutcome",
    "StudyPlan",
    "StudyRun",
    "accelerate_predictors",
    "as_dspy",
    "asking",
    "check_options",
    "dspy_adapter",
    "find_optimizer",
    "from_dspy",
    "make_optimizer",
    "module_recipe",
    "optimizers",
    "option_names",
    "program_for",
    "rebuilt",
    "recipe_of",
    "retrieval_model",
    "run_module",
    "search_tool",
    "to_dspy",
    "type_codec",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
