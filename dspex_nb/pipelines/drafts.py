"""`StepDraft`: a step before its fields are known, and the signature it may be written with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_nb.errors import DSPexError, did_you_mean
from dspex_nb.pipelines.arguments import Argument, BareName
from dspex_nb.pipelines.places import NOWHERE, Place
from dspex_nb.pipelines.targets import Parameters, is_signature
from dspex_nb.signatures import MISSING, Signature

_HIDDEN = {
    "chain_of_thought": ("reasoning",),
    "react": ("reasoning", "trajectory"),
    "react_v2": ("reasoning", "history", "termination_reason"),
    "program_of_thought": ("reasoning",),
    "code_act": ("reasoning", "trajectory"),
    "rlm": ("trajectory", "final_reasoning"),
    "best_of_n": ("reasoning",),
    "refine": ("reasoning",),
    "multi_chain_comparison": ("rationale", "reasoning", "confidence", "votes"),
    "module": ("reasoning", "trajectory", "rationale", "history"),
}


@dataclass(frozen=True, slots=True)
class StepDraft:
    """A step as its constructor was called. `outputs` None means one field named after the step, of type `gives`."""

    constructor: str
    kind: str
    target: Any = None
    signature: Signature | None = None
    parameters: Parameters = field(default_factory=Parameters)
    outputs: Mapping[str, Any] | None = None
    gives: Any = Any
    bindings: Mapping[str, Argument] = field(default_factory=dict)
    options: Mapping[str, Argument] = field(default_factory=dict)
    settings: Mapping[str, Argument] = field(default_factory=dict)
    children: tuple[tuple[str, StepDraft], ...] = ()
    place: Place = NOWHERE

    @property
    def hidden(self) -> tuple[str, ...]:
        """Outputs reachable only as `step.name`."""
        return tuple(name for name in _HIDDEN.get(self.kind, ()) if name not in (self.outputs or {}))

    def with_binding(self, name: str, argument: Argument) -> StepDraft | None:
        """Return the draft with a parameter bound, unless it is bound already; None if nothing in it has that parameter."""
        if self.constructor == "parallel":
            changed = [(label, child.with_binding(name, argument)) for label, child in self.children]
            if all(child is None for _, child in changed):
                return None
            kept = zip(changed, self.children, strict=True)
            return replace(self, children=tuple((label, child or old) for (label, child), (_, old) in kept))
        if name not in self.parameters.names and not self.parameters.open:
            return None
        return self if name in self.bindings else replace(self, bindings={**self.bindings, name: argument})


def outputs_of(signature: Signature) -> dict[str, Any]:
    """Return the fields that a signature writes and their types."""
    return {name: Any if item.untyped else item.type for name, item in signature.outputs.items()}


_NEW_VERSION = """for a new version of a field read it under another name: predict("text -> draft", text=draft)"""


def read_signature(argument: Argument, types: Mapping[str, Any]) -> Signature:
    """Return the signature that an argument names or writes out.

    Raises:
        PipelineSyntaxError: It is neither a text nor a signature, or the text cannot be read.
    """
    value, place = argument.user, argument.place
    if isinstance(value, Signature):
        return value
    if isinstance(value, str):
        try:
            return Signature(value, types=types)
        except DSPexError as error:
            reason = getattr(error, "reason", error.message)
            hint = _NEW_VERSION if reason.endswith("is declared twice") else error.hint
            raise place.find(_quoted(reason)).syntax_error(f"in the signature {value!r}: {reason}", hint) from None
    if value is MISSING and isinstance(argument.value, BareName):
        known = [name for name, found in types.items() if isinstance(found, Signature)]
        name = argument.value.name
        raise place.syntax_error(
            f"no signature is named {name!r}",
            f"{did_you_mean(name, known)}declare it with %%signature in a cell above; a field is given by name, e.g. text={name}",
        )
    if is_signature(value):
        raise place.syntax_error(
            f"{value.__name__} is DSPy's signature class", f"write dx.Signature.from_dspy({value.__name__}) in a cell above"
        )
    raise place.syntax_error(
        f"expected a signature, found {argument.described}", 'write "question -> answer" or the name of a signature'
    )


def _quoted(reason: str) -> str:
    parts = reason.split("'")
    return parts[1] if len(parts) > 2 else "\0"  # noqa: PLR2004 - the first quoted word, where there is one
