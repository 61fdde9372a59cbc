"""Which engine serves each step of a pipeline, and why: decided once, before anything runs."""

from __future__ import annotations

from dspex_nb.routing.capabilities import Capability, Routes, routes
from dspex_nb.routing.deciding import KERNEL, native_adapter, route_call
from dspex_nb.routing.estimates import Estimate
from dspex_nb.routing.plans import Plan, plan
from dspex_nb.signatures import Codec, register_package


def _dspys_type(kind: type) -> Codec | None:
    # A class of DSPy's is met, so DSPy is imported already; what its types mean is known to the bridge alone.
    from dspex_nb.bridge import type_codec

    return type_codec(kind)


register_package("dspy", _dspys_type)

__all__ = ["KERNEL", "Capability", "Estimate", "Plan", "Routes", "native_adapter", "plan", "route_call", "routes"]
