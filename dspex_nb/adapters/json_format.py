"""DSPy's JSON format, byte for byte: chat's inputs, a JSON object as the answer, a schema where the server takes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_origin

from dspex_nb.adapters import wording
from dspex_nb.adapters.base import answer_readers, complete, read_field
from dspex_nb.adapters.features import features
from dspex_nb.adapters.formats import OPENING, Format, Words, given, structure, words_of
from dspex_nb.adapters.kept import once_per_signature
from dspex_nb.adapters.schemas import structured_schema
from dspex_nb.errors import AdapterParseError
from dspex_nb.messages import Capabilities
from dspex_nb.signatures.codecs import jsonable, repaired
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.signature import Signature


class JSONAdapter(Format):
    """DSPy's JSONAdapter: messages, request options and parse results are the same.

    Args:
        use_native_function_calling: Send tools as the request's `tools` where the server takes them, not as text.
        parallel_tool_calls: What to send under this name beside the tools; None sends nothing.
    """

    name = "json"

    def __init__(self, *, use_native_function_calling: bool = True, parallel_tool_calls: bool | None = None) -> None:
        super().__init__(use_native_function_calling=use_native_function_calling, parallel_tool_calls=parallel_tool_calls)

    def words(self, signature: Signature) -> Words:
        """Return what the signature alone decides."""
        return _words(signature)

    def answer(self, fields: Mapping[str, Field], values: Mapping[str, Any], lacking: Any) -> str:
        """Return the fields as a JSON object."""
        return _object({name: given(values, name, lacking) for name in fields})

    def options(self, signature: Signature, capabilities: Capabilities) -> dict[str, Any]:
        """Return `response_format`: the outputs' strict schema where the server takes one, else JSON mode, else nothing."""
        if "response_format" not in capabilities.params:
            return {}
        found = None if self.use_native_function_calling else features(signature)
        schema = None
        if capabilities.response_schema and (found is None or found.calls is None):
            schema = _response_format(signature)
        return {"response_format": {"type": "json_object"} if schema is None else json.loads(schema)}

    def parse(self, signature: Signature, text: str) -> dict[str, Any]:
        """Return the object's fields, typed; JSON with small faults is repaired."""
        readers = answer_readers(signature)
        found: dict[str, Any] = {}
        for name, value in read_object(text, adapter=self.name).items():
            if name in readers:
                field, reader = readers[name]
                found[name] = read_field(field, reader, value, adapter=self.name, answer=text)
        return complete(signature, found, adapter=self.name, answer=text)


@once_per_signature
def _words(signature: Signature) -> Words:
    outputs = {name: wording.placeholder(field) for name, field in signature.outputs.items()}
    outline = "\n\n".join([
        OPENING,
        "Inputs will have the following structure:",
        structure(signature.inputs),
        "Outputs will be a JSON object with the following fields.",
        _object(outputs),
    ]).strip()  # fmt: skip
    system = f"{wording.field_lists(signature)}\n{outline}\n{wording.objective(signature)}"
    names = ", then ".join(f"`{name}`{wording.type_reminder(field)}" for name, field in signature.outputs.items())
    return words_of(signature, system, f"Respond with a JSON object in the following order of fields: {names}.")


@once_per_signature
def _response_format(signature: Signature) -> str | None:
    """Return the outputs' strict schema as JSON text, whence every request gets a copy of its own; None if they have none."""
    if any(get_origin(field.type) is dict for field in signature.outputs.values()):
        return None
    schema = structured_schema(signature)
    if schema is None:
        return None
    wrapped = {"name": "DSPyProgramOutputs", "schema": schema, "strict": True}
    return json.dumps({"type": "json_schema", "json_schema": wrapped})


def _object(values: Mapping[str, Any]) -> str:
    return json.dumps(jsonable(dict(values)), indent=2, ensure_ascii=False)


def read_object(text: str, *, adapter: str) -> dict[str, Any]:
    """Return the JSON object in an answer: the whole text, else its first balanced `{…}`, with small faults repaired.

    Raises:
        AdapterParseError: There is none.
    """
    try:
        value = repaired(text)
        if not isinstance(value, dict):
            inner = _first_object(text)
            value = repaired(inner) if inner else value
    except (ValueError, RecursionError):  # nested beyond the parser's depth
        value = None
    if not isinstance(value, dict):
        hint = "run again, or use adapter='compact' where the server takes a JSON schema"
        raise AdapterParseError("the answer is not a JSON object", hint=hint, adapter=adapter, answer=text)
    return value


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
