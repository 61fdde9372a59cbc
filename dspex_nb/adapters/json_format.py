"""DSPy's JSON format, byte for byte: chat's inputs, a JSON object as the answer, a schema where the server takes one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_origin

from dspex_nb.adapters import wording
from dspex_nb.adapters.base import Demo, complete, foreign, read_field
from dspex_nb.adapters.chat import conversation, given, structure
from dspex_nb.errors import AdapterParseError
from dspex_nb.messages import Capabilities
from dspex_nb.signatures.codecs import jsonable
from dspex_nb.signatures.fields import MISSING
from dspex_nb.signatures.signature import Signature

_OPENING = "All interactions will be structured in the following way, with the appropriate values filled in."


class JSONAdapter:
    """DSPy's JSONAdapter: messages, `response_format` and parse results are the same."""

    name = "json"

    def messages(self, signature: Signature, demos: Sequence[Demo], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return system, demo and user messages."""
        outputs = {name: wording.placeholder(field) for name, field in signature.outputs.items()}
        outline = "\n\n".join([
            _OPENING,
            "Inputs will have the following structure:",
            structure(signature.inputs),
            "Outputs will be a JSON object with the following fields.",
            _object(outputs),
        ]).strip()  # fmt: skip
        system = f"{wording.field_lists(signature)}\n{outline}\n{wording.objective(signature)}"
        return conversation(signature, demos, inputs, system=system, request=_request(signature), answer=_answer)

    def options(self, signature: Signature, capabilities: Capabilities) -> dict[str, Any]:
        """Return `response_format`: the outputs' strict schema where the server takes one, else JSON mode, else nothing."""
        if "response_format" not in capabilities.params:
            return {}
        mapping = any(get_origin(field.type) is dict for field in signature.outputs.values())
        schema = None if mapping or not capabilities.response_schema else structured_schema(signature)
        if schema is None:
            return {"response_format": {"type": "json_object"}}
        wrapped = {"name": "DSPyProgramOutputs", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}

    def parse(self, signature: Signature, text: str) -> dict[str, Any]:
        """Return the object's fields, typed; JSON with small faults is repaired."""
        outputs = signature.outputs
        found = {
            name: read_field(outputs[name], value, adapter=self.name, answer=text)
            for name, value in read_object(text, adapter=self.name).items()
            if name in outputs
        }
        return complete(signature, found, adapter=self.name, answer=text)

    def unsupported(self, signature: Signature) -> str | None:
        """Return why DSPy must serve the signature, or None."""
        return foreign(signature)


def _request(signature: Signature) -> str:
    names = ", then ".join(f"`{name}`{wording.type_reminder(field)}" for name, field in signature.outputs.items())
    return f"Respond with a JSON object in the following order of fields: {names}."


def _answer(signature: Signature, demo: Demo, lacking: str) -> str:
    return _object({name: given(demo, name, lacking) for name in signature.outputs})


def _object(values: Mapping[str, Any]) -> str:
    return json.dumps(jsonable(dict(values)), indent=2, ensure_ascii=False)


def read_object(text: str, *, adapter: str) -> dict[str, Any]:
    """Return the JSON object in an answer: the whole text, else its first balanced `{…}`, with small faults repaired.

    Raises:
        AdapterParseError: There is none.
    """
    value: Any = _repaired(text)
    if not isinstance(value, dict):
        inner = _first_object(text)
        value = _repaired(inner) if inner else value
    if not isinstance(value, dict):
        hint = "run again, or use adapter='compact' where the server takes a JSON schema"
        raise AdapterParseError("the answer is not a JSON object", hint=hint, adapter=adapter, answer=text)
    return value


def _repaired(text: str) -> Any:
    import json_repair

    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError):  # nested beyond the parser's depth
        return None


def _first_object(text: str) -> str:
    """Return the leftmost balanced `{…}`, or an empty string."""
    opened: list[int] = []
    best: tuple[int, int] | None = None
    for index, char in enumerate(text):
        if char == "{":
            opened.append(index)
        elif char == "}" and opened:
            start = opened.pop()
            best = (start, index + 1) if best is None or start < best[0] else best
    return text[slice(*best)] if best else ""


def structured_schema(signature: Signature) -> dict[str, Any] | None:
    """Return the outputs' schema as DSPy sends it to servers with structured outputs, or None where a type has none."""
    import pydantic

    fields: dict[str, Any] = {
        name: (field.type, ... if field.default is MISSING else field.default) for name, field in signature.outputs.items()
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
