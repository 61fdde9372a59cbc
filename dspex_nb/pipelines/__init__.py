"""Pipelines as pure plans: the `%%pipeline` cell language, the constructors, the checked graph. Nothing here runs a step."""

from __future__ import annotations

from dspex_nb.pipelines.constructors import (
    best_of_n,
    build,
    chain_of_thought,
    code_act,
    colbertv2,
    field,
    knn,
    module,
    multi_chain_comparison,
    native,
    parallel,
    predict,
    program_of_thought,
    pure,
    react,
    react_v2,
    reduce,
    refine,
    rerank,
    respond,
    retriever,
    rlm,
    template,
)
from dspex_nb.pipelines.describing import describe
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.durations import read_duration
from dspex_nb.pipelines.export import to_python
from dspex_nb.pipelines.options import OPTIONS, STEP_OPTIONS
from dspex_nb.pipelines.reading import DIRECTIVES, read_cell
from dspex_nb.pipelines.records import Defaults, FieldRef, InputSpec, PipelineSpec, Predicate, Step

__all__ = [
    "DIRECTIVES",
    "OPTIONS",
    "STEP_OPTIONS",
    "Defaults",
    "FieldRef",
    "InputSpec",
    "PipelineSpec",
    "Predicate",
    "Step",
    "StepDraft",
    "best_of_n",
    "build",
    "chain_of_thought",
    "code_act",
    "colbertv2",
    "describe",
    "field",
    "knn",
    "module",
    "multi_chain_comparison",
    "native",
    "parallel",
    "predict",
    "program_of_thought",
    "pure",
    "react",
    "react_v2",
    "read_cell",
    "read_duration",
    "reduce",
    "refine",
    "rerank",
    "respond",
    "retriever",
    "rlm",
    "template",
    "to_python",
]
