"""The options of each constructor, and `sort`: which keyword of a call is a field and which an option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from dspex_nb.errors import DSPexError, did_you_mean
from dspex_nb.pipelines.arguments import Argument, Call
from dspex_nb.pipelines.targets import Parameters

STEP_OPTIONS = ("engine", "adapter", "pool", "cache", "ttl", "retry", "backoff", "timeout_s", "on_error", "when", "over", "state")
"""Options that every step takes."""

LM_OPTIONS = (
    "temperature", "max_tokens", "n", "rollout_id", "config", "demos", "top_p", "stop", "seed", "presence_penalty",
    "frequency_penalty", "reasoning_effort",
)  # fmt: skip
ADVANCED = ("reasoning_extraction", "advanced", "rationale_field", "rationale_field_type")
"""Options of a chain of thought that DSPy's module serves."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "predict": LM_OPTIONS,
    "chain_of_thought": (*LM_OPTIONS, *ADVANCED),
    "react": ("tools", "max_iters"),
    "react_v2": ("tools", "max_iters"),
    "program_of_thought": ("max_iters", "interpreter_factory"),
    "code_act": ("tools", "max_iters", "interpreter_factory"),
    "rlm": ("max_iters", "max_llm_calls", "max_output_chars", "verbose", "tools", "sub_lm", "interpreter_factory"),
    "best_of_n": ("N", "reward_fn", "threshold", "fail_count"),
    "refine": ("N", "reward_fn", "threshold", "fail_count"),
    "multi_chain_comparison": ("chains", "aggregation", *LM_OPTIONS),
    "knn": ("k", "trainset", "vectorizer"),
    "native": (),
    "reduce": ("initial",),
    "module": (),
    "template": ("call", "system", *LM_OPTIONS),
    "parallel": ("merge", "k", "weights"),
    "retriever": ("k", "mode"),
    "colbertv2": ("k", "url", "port", "post"),
    "rerank": (
        "method",
        "k",
        "lambda_mult",
        "embeddings",
        "query_embedding",
        "judge",
        "embedder",
        "encoder",
        "methods",
        "weights",
        "model",
        "max_tokens",
        "batch_size",
        "lm",
        "window",
        "max_words",
        "api_base",
    ),
    "respond": ("format", "citations"),
}
"""Each constructor, and the options it takes beside `STEP_OPTIONS`."""

NEEDED = {
    "react": ("tools",), "react_v2": ("tools",), "code_act": ("tools",), "best_of_n": ("N", "reward_fn", "threshold"),
    "refine": ("N", "reward_fn", "threshold"), "knn": ("k", "trainset"),
}  # fmt: skip
SIGNATURE_KINDS = frozenset(OPTIONS) - {
    "native", "reduce", "module", "template", "parallel", "retriever", "colbertv2", "rerank", "respond",
}  # fmt: skip
"""Constructors whose first argument is a signature."""

CODE_KINDS = frozenset({"program_of_thought", "code_act", "rlm"})
"""Constructors whose steps run code that a model wrote, in Deno's sandbox."""

NOT_CHILDREN = frozenset({"merge", "k", "weights", "query", "filter", *STEP_OPTIONS})
"""Keywords of `parallel` that never name a child."""


class Parts(TypedDict):
    """Keyword arguments of a constructor, sorted."""

    bindings: dict[str, Argument]
    options: dict[str, Argument]
    settings: dict[str, Argument]


def sort(call: Call, parameters: Parameters, options: Sequence[str] = ()) -> Parts:
    """Sort keyword arguments into bindings, options and settings; a parameter wins over an option of the same name."""
    sorted_: Parts = {"bindings": {}, "options": {}, "settings": {}}
    for name, argument in call.keywords.items():
        if name in parameters.names:
            sorted_["bindings"][name] = argument
        elif name in options:
            sorted_["options"][name] = argument
        elif name in STEP_OPTIONS:
            sorted_["settings"][name] = argument
        elif parameters.open:
            sorted_["bindings"][name] = argument
        else:
            raise unknown_option(call, name, parameters.names, options)
    return sorted_


def unknown_option(call: Call, name: str, fields: Sequence[str], options: Sequence[str]) -> DSPexError:
    """Return the error of a keyword that is neither a field of the step nor an option."""
    known = [*fields, *options, *STEP_OPTIONS]
    reads = f"; it reads {', '.join(fields)}" if fields else ""
    takes = f"it takes {', '.join((*options, *STEP_OPTIONS))}"
    place = call.keywords[name].place
    return place.plan_error(f"{call.name}(...) has no option {name!r}", f"{did_you_mean(name, known)}{takes}{reads}")
