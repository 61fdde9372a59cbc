"""Adapters: signature, demos and inputs become messages, and a model's answer becomes typed fields.

`chat` and `json` are DSPy's formats byte for byte; `compact` is the short prompt with a bounded schema that small models need.
"""

from __future__ import annotations

from dspex_nb.adapters.base import Adapter, Prompt, Server, prepare, read
from dspex_nb.adapters.chat import ChatAdapter
from dspex_nb.adapters.compact import CompactAdapter
from dspex_nb.adapters.json_format import JSONAdapter
from dspex_nb.errors import AdapterError, did_you_mean

DSPY_ADAPTERS = ("xml", "two_step", "baml")
"""Names of adapters that only DSPy has: the router sends their calls there."""

_ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in (ChatAdapter(), JSONAdapter(), CompactAdapter())}


def get_adapter(adapter: str | Adapter) -> Adapter:
    """Return the adapter of this name; an adapter itself is returned as it is.

    Raises:
        AdapterError: No adapter has the name.
    """
    if not isinstance(adapter, str):
        return adapter
    if adapter not in _ADAPTERS:
        known = [*_ADAPTERS, *DSPY_ADAPTERS]
        raise AdapterError(f"no adapter is called {adapter!r}", hint=f"{did_you_mean(adapter, known)}known: {', '.join(known)}")
    return _ADAPTERS[adapter]


def check_adapter(adapter: str | Adapter) -> None:
    """Refuse a name that neither the native engine nor DSPy has an adapter for.

    Raises:
        AdapterError: No adapter has the name.
    """
    if adapter not in DSPY_ADAPTERS:
        get_adapter(adapter)


__all__ = [
    "DSPY_ADAPTERS",
    "Adapter",
    "ChatAdapter",
    "CompactAdapter",
    "JSONAdapter",
    "Prompt",
    "Server",
    "check_adapter",
    "get_adapter",
    "prepare",
    "read",
]
