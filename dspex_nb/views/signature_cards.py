"""The card of a signature: its fields, the exact prompt, the JSON schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.views.formats import cut, plural, value_text
from dspex_nb.views.markup import Html, details, frame, heading, join, mono, muted, pre, section, tag
from dspex_nb.views.media_info import part_text
from dspex_nb.views.tables import Column, table_html, table_text


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One field of a signature.

    Attributes:
        name: Its name.
        type: Its type as written in the cell, e.g. `Literal["billing", "tech"]`.
        description: What it means, empty if nothing was said.
        default: Its default as written, empty if it is required or an output.
    """

    name: str
    type: str
    description: str = ""
    default: str = ""


@dataclass(frozen=True, slots=True)
class SignatureCardInfo:
    """What the card shows.

    Attributes:
        name: The signature's name.
        instructions: What the model is told to do.
        inputs: Input fields in order.
        outputs: Output fields in order.
        adapter: Name of the adapter that wrote `messages`.
        messages: The exact chat messages, with placeholders where values go; `role` and `content` are read.
        schema: The JSON schema of the outputs, None if there is none.
    """

    name: str
    instructions: str = ""
    inputs: Sequence[FieldInfo] = ()
    outputs: Sequence[FieldInfo] = ()
    adapter: str = ""
    messages: Sequence[Mapping[str, Any]] = ()
    schema: Mapping[str, Any] | None = field(default=None)


def signature_card(info: SignatureCardInfo) -> str:
    """Draw the card as HTML."""
    spec = f"{', '.join(f.name for f in info.inputs)} → {', '.join(f.name for f in info.outputs)}"
    instructions = tag("div", info.instructions, style="white-space: pre-wrap; margin: 0 0 8px 0;") if info.instructions else ""
    return frame(heading(info.name, muted(spec), kind="signature"), instructions, _fields(info), _prompt(info), _schema(info))


def _columns(info: SignatureCardInfo) -> list[Column]:
    columns = [Column("", wrap=False), Column("Field", wrap=False), Column("Type"), Column("Description", width="50%")]
    return [*columns, Column("Default")] if any(f.default for f in info.inputs) else columns


def _fields(info: SignatureCardInfo) -> Html:
    rows = []
    for kind, fields in (("input", info.inputs), ("output", info.outputs)):
        for one in fields:
            name = tag("strong", one.name, style="font-weight: 600;")
            rows.append((muted(kind), name, mono(one.type), one.description, mono(one.default) if one.default else Html("")))
    return table_html(_columns(info), rows, limit=None, empty="no fields")


def message_text(message: Mapping[str, Any]) -> str:
    """Return a chat message's content as text; parts that are no text are named by their type."""
    content = message.get("content")
    if isinstance(content, list | tuple):
        return "\n".join(part_text(part) for part in content)
    return "" if content is None else value_text(content)


def messages_html(messages: Sequence[Mapping[str, Any]]) -> Html:
    """Draw chat messages one below the other, each under its role."""
    return join(*(join(section(str(m.get("role", "message"))), pre(message_text(m))) for m in messages))


def _prompt(info: SignatureCardInfo) -> Html:
    if not info.messages:
        return Html("")
    adapter = f" (adapter {info.adapter})" if info.adapter else ""
    return details(f"Exact prompt{adapter}", messages_html(info.messages))


def _schema(info: SignatureCardInfo) -> Html:
    if info.schema is None:
        return Html("")
    return details("JSON schema", pre(json.dumps(info.schema, indent=2, ensure_ascii=False, default=str)))


def signature_text(info: SignatureCardInfo) -> str:
    """Write the card as text."""
    rows = [("in", f.name, f.type, f.description, f.default) for f in info.inputs]
    rows += [("out", f.name, f.type, f.description, f.default) for f in info.outputs]
    has_default = any(row[4] for row in rows)
    columns = ["", "field", "type", "description", *(["default"] if has_default else [])]
    table = table_text(columns, [row if has_default else row[:4] for row in rows], limit=None)
    counts = f"{plural(len(info.inputs), 'input')}, {plural(len(info.outputs), 'output')}"
    instructions = f"{cut(info.instructions, 400)}\n" if info.instructions else ""
    return f"signature {info.name} ({counts})\n{instructions}{table}"
