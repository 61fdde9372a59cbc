"""The JSON schema of a signature's answers as DSPy and OpenAI's strict mode want it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_nb.adapters.features import role
from dspex_nb.signatures.fields import MISSING
from dspex_nb.signatures.signature import Signature


def structured_schema(signature: Signature) -> dict[str, Any] | None:
    """Return the outputs' schema as DSPy sends it to servers with structured outputs, or None where a type has none.

    Tool calls are no part of it: servers that take a schema are sent the tools themselves.
    """
    import pydantic

    fields: dict[str, Any] = {
        name: (field.type, ... if field.default is MISSING else field.default)
        for name, field in signature.outputs.items()
        if role(field.type) != "tool_calls"
    }
    try:
        model = pydantic.create_model("DSPyProgramOutputs", __config__=pydantic.ConfigDict(extra="forbid"), **fields)
        schema: dict[str, Any] = model.model_json_schema()
    except (ValueError, pydantic.PydanticInvalidForJsonSchema, pydantic.PydanticSchemaGenerationError):
        return None
    _close(schema)
    closed: dict[str, Any] = strict(schema, schema)
    return closed


def _close(part: Any) -> None:
    """Require every property and forbid others, down through properties, items and definitions."""
    if not isinstance(part, dict):
        return
    if part.get("type") == "object":
        properties = part.setdefault("properties", {})
        part["required"], part["additionalProperties"] = list(properties), False
        for inner in properties.values():
            _close(inner)
    if part.get("type") == "array":
        _close(part.get("items"))
    for key in ("$defs", "definitions"):
        for inner in part.get(key, {}).values():
            _close(inner)


def strict(part: Any, root: Mapping[str, Any]) -> Any:  # noqa: C901 - one rule of strict mode a branch
    """Return a schema in OpenAI's strict form: all required, closed, no null defaults, no `$ref` beside other keys."""
    if not isinstance(part, dict):
        return part
    out = dict(part)
    for key in ("$defs", "definitions", "properties"):
        if isinstance(out.get(key), dict):
            out[key] = {name: strict(inner, root) for name, inner in out[key].items()}
    if out.get("type") == "object":
        out.setdefault("additionalProperties", False)
    if isinstance(out.get("properties"), dict):
        out["required"] = list(out["properties"])
    if isinstance(out.get("items"), dict):
        out["items"] = strict(out["items"], root)
    for key in ("anyOf", "allOf"):
        if isinstance(out.get(key), list):
            out[key] = [strict(inner, root) for inner in out[key]]
    if len(out.get("allOf", ())) == 1:
        out.update(out.pop("allOf")[0])
    if out.get("default", ...) is None:
        del out["default"]
    return _inlined(out, root)


def _inlined(out: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    reference = out.get("$ref")
    if not isinstance(reference, str) or len(out) == 1:
        return out
    target: Any = root
    for step in reference.removeprefix("#/").split("/"):
        target = target.get(step) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        return out
    return {**strict(target, root), **{key: value for key, value in out.items() if key != "$ref"}}
