"""JSON schemas as a provider's structured output takes them: what it cannot enforce is said in words instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_UNENFORCED = (
    "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minProperties", "maxProperties",
    "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "unevaluatedProperties", "if", "then",
    "else", "not",
)  # fmt: skip
_NAMED = ("properties", "$defs", "definitions")


def is_open(schema: Any) -> bool:
    """Say whether some object in it takes keys of any name, which structured output cannot."""
    if isinstance(schema, list):
        return any(is_open(one) for one in schema)
    if not isinstance(schema, Mapping):
        return False
    if schema.get("type") == "object" and (schema.get("additionalProperties") or not schema.get("properties")):
        return True
    return any(is_open(list(value.values()) if key in _NAMED else value) for key, value in schema.items() if key != "enum")


def closed(schema: Any) -> Any:
    """Return a schema whose objects take no further keys and whose unenforceable limits stand in the descriptions."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    said = [f"{name}: {json.dumps(schema[name])}" for name in _UNENFORCED if schema.get(name) not in (None, False)]
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping):
            made[key] = {name: closed(one) for name, one in value.items()}
        elif key in {"anyOf", "oneOf", "allOf", "items"}:
            other = "anyOf" if key == "oneOf" else key
            made[other] = [*made.get(other, ()), *closed(value)] if isinstance(value, list) else closed(value)
        elif key not in _UNENFORCED:
            made[key] = value
    if said:
        made["description"] = " ".join([*([made["description"]] if made.get("description") else []), f"({'; '.join(said)})"])
    if made.get("type") == "object":
        made["additionalProperties"] = False
    return made
