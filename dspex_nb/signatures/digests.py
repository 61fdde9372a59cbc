"""The hash of a signature's content: the same in every process, for the same fields, types and instructions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.types import leaves, type_text


def digest_of(instructions: str, fields: Iterable[Field]) -> str:
    """Return a hex hash of all that a prompt depends on: instructions, fields, types, descriptions, defaults."""
    content = [instructions, [_identity(one) for one in fields]]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:32]


def stable_hash(instructions: str, fields: Iterable[Field]) -> int:
    """Return a number for dicts and sets, cheaper than the digest, and the same in every process too."""
    said = "\0".join([instructions, *(f"{one.name}:{one.is_input}:{one.desc}" for one in fields)])
    return int.from_bytes(hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=8).digest(), "big", signed=True)


def _identity(one: Field) -> list[Any]:
    # In an order of their own: of equal types, `typing` may hand out the one that someone wrote the other way round.
    shapes = sorted((_shape(leaf) for leaf in leaves(one.type)), key=repr)
    extras = sorted((key, _text(value)) for key, value in {**one.rules, **one.extra}.items())
    said = [one.name, one.is_input, one.desc, one.constraints, _text(one.default), extras]
    factory = [] if one.factory is None else [_text(one.factory)]
    return [*said, type_text(one.type), shapes, [_text(item) for item in one.metadata], *factory]


def _shape(leaf: Any) -> Any:
    """Return what tells two classes of one name apart: an enum's members, a model's schema."""
    members = getattr(leaf, "__members__", None)
    if members is not None:
        return [[name, _text(member.value)] for name, member in members.items()]
    if hasattr(leaf, "model_json_schema"):
        try:
            return leaf.model_json_schema()
        except Exception:  # noqa: BLE001 - a model without JSON form is told apart by its name alone
            return _text(leaf)
    shape = [str(getattr(leaf, "__module__", ""))]
    own = vars(leaf).get("__annotations__") if isinstance(leaf, type) else None
    return [*shape, {name: _text(kind) for name, kind in own.items()}] if own else shape


def _text(value: Any) -> str:
    """Return a repr that is the same in every process: sets in order, functions and objects without their address."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({', '.join(sorted(_text(item) for item in value))})"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
