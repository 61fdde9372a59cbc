"""Training and validation examples as an optimizer will split them, so that a study knows which examples decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Examples = Sequence[Any]
_MIPRO_MOST, _MIPRO_SHARE = 1000, 0.8
_INFER_SHARE, _TOGETHER_SHARE = 0.5, 0.1


def split(
    optimizer: str, train: Examples, val: Examples | None, options: Mapping[str, Any]
) -> tuple[list[Any], list[Any] | None]:
    """Return both sets as DSPy would take them where no validation set is given; None where the training set is both."""
    if val is not None:
        return list(train), list(val)
    if optimizer == "MIPROv2" and len(train) > 1:
        size = min(_MIPRO_MOST, max(1, int(len(train) * _MIPRO_SHARE)))
        return list(train[: len(train) - size]), list(train[len(train) - size :])
    if optimizer == "InferRules" and len(train) > 1:
        size = int(_INFER_SHARE * len(train))
        return list(train[:size]), list(train[size:])
    if optimizer == "BetterTogether":
        size = int(options.get("valset_ratio", _TOGETHER_SHARE) * len(train))
        return (list(train[size:]), list(train[:size])) if size else (list(train), list(train))
    return list(train), None
