"""Cache keys: the same request gives the same key in any process, whatever the order of its dictionaries."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from dspex_nb.messages import Request

KEY_VERSION = 1  # raise it when a change of meaning must not find old answers


def request_key(client_identity: str, request: Request) -> str:
    """Return the key of a request to a model: 64 hex digits.

    Args:
        client_identity: What answers: the model string, and the server where one was given. Never a port picked at random.
        request: The request with all options that reach the model; rollout and candidate are part of the key.
    """
    return digest(
        {
            "v": KEY_VERSION,
            "model": client_identity,
            "messages": list(request.messages),
            "options": dict(request.options),
            "rollout": request.rollout,
            "candidate": request.candidate,
        }
    )


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-able value's canonical form (keys sorted, no spaces)."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_jsonable)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, bytes):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    try:
        return dict(value)  # any other Mapping, whatever its class
    except (TypeError, ValueError):
        raise TypeError(f"a request's options must be JSON-able, found {type(value).__name__}") from None
