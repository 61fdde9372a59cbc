"""Signatures and predictions as a notebook shows them."""

from __future__ import annotations

from typing import Any

from dspex_nb.adapters import DSPY_ADAPTERS, get_adapter
from dspex_nb.adapters.features import role
from dspex_nb.ambient import current
from dspex_nb.api.displays import show
from dspex_nb.errors import DSPexError
from dspex_nb.signatures import MISSING, Field, Signature
from dspex_nb.signatures.types import type_text
from dspex_nb.views import FieldInfo, SignatureCardInfo, signature_card, signature_text


def card_info(signature: Signature, adapter: str | None = None) -> SignatureCardInfo:
    """Return what the card shows, with the prompt that the session's adapter (or `adapter`) writes."""
    now = current()
    chosen = adapter or now.adapter or getattr(now.lm, "default_adapter", "chat")
    name = chosen if isinstance(chosen, str) else getattr(chosen, "name", "chat")
    return SignatureCardInfo(
        name=signature.name,
        instructions=signature.instructions,
        inputs=[_field(field) for field in signature.inputs.values()],
        outputs=[_field(field) for field in signature.outputs.values()],
        adapter=name,
        messages=_messages(signature, chosen),
        schema=_schema(signature),
    )


def show_signature(signature: Signature, *, adapter: str | None = None) -> None:
    """Display a signature's card: fields, exact prompt, JSON schema."""
    info = card_info(signature, adapter)
    show(signature_card(info), signature_text(info))


def signature_bundle(signature: Signature) -> tuple[str, str]:
    """Return a signature's card as HTML and as text, for IPython's formatters."""
    info = card_info(signature)
    return signature_card(info), signature_text(info)


def _field(field: Field) -> FieldInfo:
    default = "" if field.default is MISSING else repr(field.default)
    return FieldInfo(field.name, type_text(field.type), field.desc, default)


def _messages(signature: Signature, chosen: Any) -> list[dict[str, Any]]:
    """Return the prompt with `{name}` in each input's place; a conversation's turns have no place of their own."""
    if isinstance(chosen, str) and chosen in DSPY_ADAPTERS:
        return [{"role": "note", "content": f"DSPy's {chosen} adapter writes this prompt"}]
    try:
        adapter = get_adapter(chosen) if isinstance(chosen, str) else chosen
        shown = [name for name, field in signature.inputs.items() if role(field.type) != "history"]
        return list(adapter.messages(signature, [], {name: f"{{{name}}}" for name in shown}))
    except (DSPexError, AttributeError) as error:
        return [{"role": "note", "content": f"DSPy writes this prompt: {error}"}]


def _schema(signature: Signature) -> dict[str, Any] | None:
    try:
        return dict(signature.json_schema())
    except Exception:  # noqa: BLE001 - pydantic cannot describe every class; the card then has no schema
        return None
