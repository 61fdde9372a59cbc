"""Program language models inside Jupyter: signatures, pipelines, evaluations and optimizer studies as cells.

`import dspex_nb as dx` gives the names below; each is loaded when first used. `%load_ext dspex_nb` adds the magics.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "dspex_nb.api": (
        "ChainOfThought", "Comparison", "Embedder", "Evaluation", "LM", "Pipeline", "Predict", "Run", "Signature", "Study",
        "Synthesized", "Trace", "accelerate", "audio", "colbertv2", "compare", "compare_studies", "configure", "context",
        "doctor", "evaluate", "file", "image", "judge", "load", "load_documents", "load_evaluation", "load_run", "load_study",
        "optimize", "optimizers", "pool", "rerank", "respond", "retriever", "retrievers", "run_list", "session", "status",
        "studies", "synthesize", "webcam",
    ),
    "dspex_nb.bridge": ("Avatar", "StandInTrainer"),
    "dspex_nb.cache": ("Cache",),
    "dspex_nb.errors": ("Cancelled", "DSPexError"),
    "dspex_nb.examples": ("Example",),
    "dspex_nb.messages": ("Capabilities", "Response", "Usage"),
    "dspex_nb.passages": ("Passage",),
    "dspex_nb.pipelines": (
        "best_of_n", "chain_of_thought", "code_act", "field", "knn", "module", "multi_chain_comparison", "native",
        "parallel", "predict", "program_of_thought", "pure", "react", "react_v2", "reduce", "refine", "rlm",
        "template",
    ),
    "dspex_nb.predictions": ("FieldEvent", "Prediction"),
    "dspex_nb.routing": ("routes",),
    "dspex_nb.signatures": ("InputField", "OutputField"),
}  # fmt: skip
_MODULES = ("datasets", "errors", "metrics", "testing")
_NAMES = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_NAMES, *_MODULES, "__version__", "load_ipython_extension"])  # noqa: PLE0605 - one list, written once

if TYPE_CHECKING:
    from dspex_nb.api import *  # noqa: F403
    from dspex_nb.bridge import Avatar, StandInTrainer  # noqa: F401
    from dspex_nb.cache import Cache  # noqa: F401
    from dspex_nb.errors import Cancelled, DSPexError  # noqa: F401
    from dspex_nb.examples import Example  # noqa: F401
    from dspex_nb.messages import Capabilities, Response, Usage  # noqa: F401
    from dspex_nb.passages import Passage  # noqa: F401
    from dspex_nb.predictions import Prediction  # noqa: F401
    from dspex_nb.signatures import InputField, OutputField  # noqa: F401


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"dspex_nb.{name}")
    if name not in _NAMES:
        from dspex_nb.errors import did_you_mean

        raise AttributeError(f"dspex_nb has no {name!r}; {did_you_mean(name, _NAMES)}see dir(dspex_nb)")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Add the magics to an IPython shell: `%load_ext dspex_nb`."""
    from dspex_nb.magics import register

    register(shell)
