"""What depends on a signature alone is worked out once: prompts ask for it at every call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from dspex_nb.signatures.signature import Signature

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MOST = 1024  # an optimizer makes hundreds of signatures


def once_per_signature(make: Callable[Concatenate[Signature, _P], _T]) -> Callable[Concatenate[Signature, _P], _T]:
    """Return `make` with its results kept; further arguments, which must be hashable, are part of the key.

    Results are found by the signature's identity: equal signatures can read answers differently, for
    `Union[int, str] == Union[str, int]`. They are shared, so nobody may change them.
    """
    kept: dict[Any, tuple[Signature, _T]] = {}

    def look_up(signature: Signature, /, *rest: _P.args, **named: _P.kwargs) -> _T:
        key: Any = (id(signature), *rest, *named.values()) if rest or named else id(signature)
        try:
            return kept[key][1]
        except KeyError:
            if len(kept) >= _MOST:
                kept.clear()
            # The entry holds the signature, so no other can come to have its id.
            entry = kept[key] = (signature, make(signature, *rest, **named))
            return entry[1]

    functools.update_wrapper(look_up, make)
    return look_up
