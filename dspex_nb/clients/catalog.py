"""The catalog: what is known offline of each model, from the list that ships inside LiteLLM, read without importing it."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILE = "model_prices_and_context_window_backup.json"
_RULES = "fallback_generalizations"


@functools.lru_cache(maxsize=1)
def table() -> Mapping[str, Any]:
    """Return the whole list, model name to facts; empty where LiteLLM is not installed. Reading it takes about 30 ms, once."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.origin:
        return {}
    try:
        found = json.loads((Path(spec.origin).parent / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def entry(provider: str, name: str) -> Mapping[str, Any] | None:
    """Return the list's own entry of a provider's model, or None; prices come from this alone, never from a rule."""
    found = table().get(f"{provider}/{name}")
    if found is None:
        bare = table().get(name)
        found = bare if isinstance(bare, dict) and bare.get("litellm_provider") == provider else None
    return found if isinstance(found, dict) else None


@functools.lru_cache(maxsize=256)
def facts(provider: str, name: str) -> Mapping[str, Any]:
    """Return what is known of a model: its entry, and what the list's rules say of its whole family; empty if nothing is.

    This is what plain DSPy asks before it writes a prompt, so that both write the same.
    """
    own = entry(provider, name)
    known = dict(own or {})
    for rule in table().get(_RULES, {}).get("rules", ()):
        only = rule.get("fill_missing_for_providers")
        if own is not None and only is not None and own.get("litellm_provider") not in only:
            continue
        if re.search(rule["pattern"], name):
            known = {**rule.get("model_info", {}), **known}
    return known
