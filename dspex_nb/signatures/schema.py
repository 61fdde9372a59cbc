"""The JSON schema of a signature's outputs, made by pydantic."""

from __future__ import annotations

from typing import Annotated, Any

from dspex_nb.errors import SignatureError
from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.types import type_text


def outputs_schema(name: str, outputs: list[Field]) -> dict[str, Any]:
    """Return an object schema with one property an output: type, bounds, description, default.

    Raises:
        SignatureError: A type has no JSON form.
    """
    from pydantic import ConfigDict, create_model

    try:
        model = create_model(
            name,
            __config__=ConfigDict(extra="forbid", protected_namespaces=()),
            **{one.name: _declaration(one) for one in outputs},
        )  # type: ignore[call-overload]
        schema: dict[str, Any] = model.model_json_schema()
    except Exception as error:
        kinds = ", ".join(type_text(one.type) for one in outputs)
        raise SignatureError(
            f"{name}: no JSON schema for {kinds} ({type(error).__name__})", hint="use builtins, enums or pydantic models"
        ) from error
    for part in schema["properties"].values():
        part.pop("title", None)
    return schema


def _declaration(one: Field) -> tuple[Any, Any]:
    import pydantic

    rules = {key: value for key, value in one.rules.items() if key != "description"}
    kind = Annotated[(one.type, *one.metadata)] if one.metadata else one.type
    if one.factory is not None:
        rules["default_factory"] = one.factory
    elif not one.required:
        rules["default"] = one.default
    return (kind, pydantic.Field(description=one.desc or None, **rules))
