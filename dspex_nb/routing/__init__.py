"""Which engine serves each step of a pipeline, and why: decided once, before anything runs."""

from __future__ import annotations

from typing import Any

from dspex_nb.retrieval.extending import provide
from dspex_nb.routing.capabilities import Capability, Routes, routes
from dspex_nb.routing.deciding import KERNEL, native_adapter, route_call
from dspex_nb.routing.estimates import Estimate
from dspex_nb.routing.plans import Plan, plan
from dspex_nb.signatures import Codec, register_package


def _dspys_type(kind: type) -> Codec | None:
    # A class of DSPy's is met, so DSPy is imported already; what its types mean is known to the bridge alone.
    from dspex_nb.bridge import type_codec

    return type_codec(kind)


def _dspys_retriever(retriever: Any) -> Any:
    from dspex_nb.bridge import retrieval_model

    return retrieval_model(retriever)


def _dspys_tool(retriever: Any, **options: Any) -> Any:
    from dspex_nb.bridge import search_tool

    return search_tool(retriever, **options)


register_package("dspy", _dspys_type)
provide("dspy", _dspys_retriever)
provide("tool", _dspys_tool)

__all__ = ["KERNEL", "Capability", "Estimate", "Plan", "Routes", "native_adapter", "plan", "route_call", "routes"]
