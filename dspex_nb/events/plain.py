"""What stands in for `msgspec` in a worker whose interpreter has nothing but Python: the same records, made more slowly."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, dataclass_transform


@dataclass_transform(field_specifiers=(field,))
class Struct:
    """Makes its subclasses dataclasses; what else a struct may say of itself only makes it quicker."""

    __struct_fields__: tuple[str, ...] = ()

    def __init_subclass__(cls, *, kw_only: bool = False, **_: Any) -> None:
        dataclass(kw_only=kw_only)(cls)
        cls.__struct_fields__ = tuple(one.name for one in fields(cls))  # type: ignore[arg-type]
