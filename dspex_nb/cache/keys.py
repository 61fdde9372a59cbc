"""Cache keys: the same request gives the same key in any process, whatever the order of its dictionaries."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson

from dspex_nb.messages import Request

KEY_VERSION = 2  # raise it when a change of meaning must not find old answers


def request_key(client_identity: str, request: Request) -> str:
    """Return the key of a request to a model: 64 hex digits.

    Args:
        client_identity: What answers: the model string, and the server where one was given. Never a port picked at random.
        request: The request with all options that reach the model; rollout and candidate are part of the key.
    """
    return digest((KEY_VERSION, client_identity, request.messages, request.options, request.rollout, request.candidate))


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-able value's canonical form (keys sorted, no spaces).

    Tuples count as lists, and what JSON has no word for (not a number, infinity) as null.
    """
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_jsonable, option=orjson.OPT_SORT_KEYS)  # a tenth of json's time on long texts
    except TypeError:  # it refuses a lone surrogate, a number of more than 64 bits, a key that is no text
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_jsonable)
        return text.encode("utf-8", "surrogatepass")


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
