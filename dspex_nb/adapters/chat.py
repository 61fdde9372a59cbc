"""DSPy's chat format, byte for byte: fields between `[[ ## name ## ]]` headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex_nb.adapters import wording
from dspex_nb.adapters.base import Demo, complete, foreign, read_field, sort_demos
from dspex_nb.adapters.markers import user_message
from dspex_nb.messages import Capabilities
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.signature import Signature

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_OPENING = "All interactions will be structured in the following way, with the appropriate values filled in."
_PARTIAL = "This is an example of the task, though some input or output fields are not supplied."
_LACKING = ("Not supplied for this particular example. ", "Not supplied for this conversation history message. ")


def section(name: str, text: str) -> str:
    """Return one field under its header."""
    return f"[[ ## {name} ## ]]\n{text}"


def structure(fields: Mapping[str, Field]) -> str:
    """Return the fields under their headers, placeholders for values."""
    return "\n\n".join(section(name, wording.placeholder(field)) for name, field in fields.items()).strip()


def user_text(signature: Signature, values: Mapping[str, Any], *, before: str = "", request: str | None = None) -> str:
    """Return a user turn: the inputs that `values` has, then the closing request."""
    parts = [
        before,
        *(section(name, wording.value_text(field, values[name])) for name, field in signature.inputs.items() if name in values),
    ]
    return "\n\n".join([*parts, *([] if request is None else [request]), ""]).strip()


def conversation(
    signature: Signature,
    demos: Sequence[Demo],
    inputs: Mapping[str, Any],
    *,
    system: str,
    request: str,
    answer: Callable[[Signature, Demo, str], str],
) -> list[dict[str, Any]]:
    """Return the messages both of DSPy's formats share: system, demos (those lacking fields first), the inputs."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}]
    for group, lead, lacking in zip(sort_demos(signature, demos), (_PARTIAL, ""), _LACKING, strict=True):
        for demo in group:
            messages.append(user_message(user_text(signature, demo, before=lead)))
            messages.append({"role": "assistant", "content": answer(signature, demo, lacking)})
    messages.append(user_message(user_text(signature, inputs, request=request)))
    return messages


class ChatAdapter:
    """DSPy's ChatAdapter: messages and parse results are the same bytes and values."""

    name = "chat"

    def messages(self, signature: Signature, demos: Sequence[Demo], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return system, demo and user messages."""
        fields = (structure(signature.inputs), structure(signature.outputs), "[[ ## completed ## ]]")
        outline = "\n\n".join([_OPENING, *fields]).strip()
        system = f"{wording.field_lists(signature)}\n{outline}\n{wording.objective(signature)}"
        return conversation(signature, demos, inputs, system=system, request=_request(signature), answer=_answer)

    def options(self, signature: Signature, capabilities: Capabilities) -> dict[str, Any]:  # noqa: ARG002 - the port's shape
        """Return nothing: plain text needs no options."""
        return {}

    def parse(self, signature: Signature, text: str) -> dict[str, Any]:
        """Return the fields found under their headers, typed; the first of two sections of one name counts."""
        outputs = signature.outputs
        found: dict[str, Any] = {}
        for name, content in _sections(text):
            if name in outputs and name not in found:
                found[name] = read_field(outputs[name], content, adapter=self.name, answer=text)
        return complete(signature, found, adapter=self.name, answer=text)

    def unsupported(self, signature: Signature) -> str | None:
        """Return why DSPy must serve the signature, or None."""
        return foreign(signature)


def _request(signature: Signature) -> str:
    names = ", then ".join(f"`[[ ## {name} ## ]]`{wording.type_reminder(field)}" for name, field in signature.outputs.items())
    lead = "Respond with the corresponding output fields, starting with the field "
    return f"{lead}{names}, and then ending with the marker for `[[ ## completed ## ]]`."


def _answer(signature: Signature, demo: Demo, lacking: str) -> str:
    parts = [section(name, wording.value_text(field, given(demo, name, lacking))) for name, field in signature.outputs.items()]
    return "\n\n".join(parts).strip() + "\n\n[[ ## completed ## ]]\n"


def given(demo: Demo, name: str, lacking: str) -> Any:
    """Return a demo's value, or the words for its lack."""
    return demo[name] if name in demo else lacking  # noqa: SIM401 - a dspy.Example's get differs in versions


def _sections(text: str) -> list[tuple[str, str]]:
    """Return the headed sections of an answer; text before the first header belongs to none."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        header = _HEADER.match(line.strip())
        if header:
            # The offset counts from the stripped line, as DSPy's does.
            rest = line[header.end() :].strip()
            found.append((header.group(1), [rest] if rest else []))
        else:
            found[-1][1].append(line)
    return [(name, "\n".join(lines).strip()) for name, lines in found[1:]]
