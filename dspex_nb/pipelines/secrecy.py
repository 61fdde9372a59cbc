"""What no file of a pipeline may hold: passwords and keys, told by their name or by their shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dspex_nb.errors import PipelineError

_NAMES = frozenset({"api_key", "password", "token", "secret"})
_NAME_ENDS = ("_api_key", "_password", "_secret")
_SHAPES = re.compile(r"://[^/\s:@]*:[^/\s@]+@|\bpassword\s*=|\b(?:sk-|gsk_|xai-|AIza|hf_)[\w-]{16,}")
HOW_WITHOUT = "read it inside the function, e.g. from os.environ, or define the function in a module of yours"


def holds_secret(name: str, value: Any) -> bool:
    """Whether an argument is a password or a key."""
    return isinstance(value, str) and (name in _NAMES or _SHAPES.search(value) is not None)


def refuse_secrets(definitions: Mapping[str, str]) -> None:
    """Refuse what functions of the notebook brought along, if a variable among it holds a secret.

    Args:
        definitions: Each defined name with its source.

    Raises:
        PipelineError: One does.
    """
    for name, source in definitions.items():
        first, low = source.partition("\n")[0], name.lower()
        variable = first.startswith((f"{name} = '", f'{name} = "'))
        if variable and (low in _NAMES or low.endswith(_NAME_ENDS) or _SHAPES.search(first)):
            raise PipelineError(
                f"a function uses the variable {name!r}, which holds a secret, and a file must not", hint=HOW_WITHOUT
            )
