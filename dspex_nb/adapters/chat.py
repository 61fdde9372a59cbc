"""DSPy's chat format, byte for byte: fields between `[[ ## name ## ]]` headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dspex_nb.adapters import wording
from dspex_nb.adapters.base import answer_readers, complete, read_field
from dspex_nb.adapters.formats import OPENING, Format, Words, given, section, structure, words_of
from dspex_nb.adapters.json_format import JSONAdapter
from dspex_nb.adapters.kept import once_per_signature
from dspex_nb.messages import Capabilities
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.signature import Signature

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_DONE = "[[ ## completed ## ]]"


class ChatAdapter(Format):
    """DSPy's ChatAdapter: messages, request options and parse results are the same bytes and values.

    Args:
        use_native_function_calling: Send tools as the request's `tools` where the server takes them, not as text.
        parallel_tool_calls: What to send under this name beside the tools; None sends nothing.
        use_json_adapter_fallback: Ask again in the JSON format when an answer cannot be read.
    """

    name = "chat"

    def __init__(
        self,
        *,
        use_native_function_calling: bool = False,
        parallel_tool_calls: bool | None = None,
        use_json_adapter_fallback: bool = True,
    ) -> None:
        super().__init__(use_native_function_calling=use_native_function_calling, parallel_tool_calls=parallel_tool_calls)
        self.use_json_adapter_fallback = use_json_adapter_fallback

    @property
    def fallback(self) -> Format | None:
        """JSON with the same way of calling tools, or None."""
        if not self.use_json_adapter_fallback:
            return None
        return JSONAdapter(
            use_native_function_calling=self.use_native_function_calling, parallel_tool_calls=self.parallel_tool_calls
        )

    def words(self, signature: Signature) -> Words:
        """Return what the signature alone decides."""
        return _words(signature)

    def answer(self, fields: Mapping[str, Field], values: Mapping[str, Any], lacking: Any) -> str:
        """Return the fields under their headers, then the marker of the end."""
        parts = [section(name, wording.value_text(field, given(values, name, lacking))) for name, field in fields.items()]
        return "\n\n".join(parts).strip() + f"\n\n{_DONE}\n"

    def options(self, signature: Signature, capabilities: Capabilities) -> dict[str, Any]:  # noqa: ARG002 - the port's shape
        """Return nothing: plain text needs no options."""
        return {}

    def parse(self, signature: Signature, text: str) -> dict[str, Any]:
        """Return the fields found under their headers, typed; the first of two sections of one name counts."""
        readers = answer_readers(signature)
        found: dict[str, Any] = {}
        for name, content in _sections(text):
            if name in readers and name not in found:
                field, reader = readers[name]
                found[name] = read_field(field, reader, content, adapter=self.name, answer=text)
        return complete(signature, found, adapter=self.name, answer=text)


@once_per_signature
def _words(signature: Signature) -> Words:
    parts = [OPENING, structure(signature.inputs), structure(signature.outputs), _DONE]
    outline = "\n\n".join(parts).strip()
    system = f"{wording.field_lists(signature)}\n{outline}\n{wording.objective(signature)}"
    names = ", then ".join(f"`[[ ## {name} ## ]]`{wording.type_reminder(field)}" for name, field in signature.outputs.items())
    lead = "Respond with the corresponding output fields, starting with the field "
    return words_of(signature, system, f"{lead}{names}, and then ending with the marker for `{_DONE}`.")


def _sections(text: str) -> list[tuple[str, str]]:
    """Return the headed sections of an answer; text before the first header belongs to none."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        header = _HEADER.match(line.strip()) if "[[ ## " in line else None
        if header:
            # The offset counts from the stripped line, as DSPy's does.
            rest = line[header.end() :].strip()
            found.append((header.group(1), [rest] if rest else []))
        else:
            found[-1][1].append(line)
    return [(name, "\n".join(lines).strip()) for name, lines in found[1:]]
