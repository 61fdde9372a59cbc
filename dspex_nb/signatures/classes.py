"""The body of `class S(Signature): ...`, read as a value's fields and instructions."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Annotated, Any, ClassVar, get_args, get_origin

from dspex_nb.errors import SignatureError
from dspex_nb.signatures.annotations import check_type, is_pydantic_field, resolved, with_type
from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.grammar import Piece, check_name
from dspex_nb.signatures.specs import type_from_text


def read_body(name: str, space: dict[str, Any], inherited: Sequence[Field], frame: FrameType | None) -> list[Field]:
    """Return the fields of a class body, after those it inherits.

    Args:
        name: What the class is called.
        space: The body's names.
        inherited: The fields of the bases; a field declared anew keeps its place.
        frame: Where the class statement runs; types written as text are looked up there.

    Raises:
        SignatureError: A field that is neither input nor output, or whose type cannot be read.
    """
    fields = {one.name: one for one in inherited}
    annotations = _annotations(space)
    for key, value in space.items():
        if is_pydantic_field(value):
            _refuse_theirs(name, key)
        if isinstance(value, Field):
            kind = _kind(key, annotations.pop(key, value.type), space, frame)
            fields[key] = _field(key, value, kind)
    for key, written in annotations.items():
        kind = _kind(key, written, space, frame)
        if get_origin(kind) is ClassVar or kind is ClassVar:
            continue
        # DSPy's other way to write it: `question: Annotated[str, InputField()]`
        inside = next((note for note in get_args(kind)[1:] if isinstance(note, Field)), None) if _annotated(kind) else None
        if inside is None:
            raise SignatureError(
                f"field {key!r} of {name} is neither input nor output", hint=f"write {key}: ... = InputField() or OutputField()"
            )
        fields[key] = _field(key, inside, kind)
    return list(fields.values())


def _field(key: str, given: Field, kind: Any) -> Field:
    check_name(Piece(key, 0, len(key)))
    if _annotated(kind):
        base, *notes = get_args(kind)
        rest = [note for note in notes if not isinstance(note, Field)]
        kind = Annotated[(base, *rest)] if rest else base
    untyped = kind is MISSING
    one = with_type(replace(given, name=key, type=kind, untyped=untyped, marked=untyped or None))
    check_type(one)
    return one


def _annotated(kind: Any) -> bool:
    return get_origin(kind) is Annotated


def _refuse_theirs(name: str, key: str) -> None:
    raise SignatureError(
        f"field {key!r} of {name} is made by DSPy's or pydantic's own function",
        hint="use dspex_nb's InputField and OutputField, or convert a dspy.Signature with Signature.from_dspy",
    )


def _annotations(space: dict[str, Any]) -> dict[str, Any]:
    if "__annotations__" not in space and sys.version_info >= (3, 14):
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(space)
        if annotate:
            return dict(annotationlib.call_annotate_function(annotate, format=annotationlib.Format.FORWARDREF))
    return dict(space.get("__annotations__", {}))


def _kind(field: str, kind: Any, space: Mapping[str, Any], frame: FrameType | None) -> Any:
    """Return an annotation whose parts written as text (`from __future__ import annotations`) are the types they name."""

    def read(text: str) -> Any:
        names = dict(vars(sys.modules[space["__module__"]])) if space.get("__module__") in sys.modules else {}
        if frame is not None:
            names.update(frame.f_globals)
            names.update(frame.f_locals)
        return type_from_text(field, text, names)

    return resolved(kind, read) if kind is not MISSING else kind
