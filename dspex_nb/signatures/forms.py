"""A signature's fields in order, set up once: what every look at a signature reads, and every equal text shares."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.grammar import Piece, read_line
from dspex_nb.signatures.names import Names, Readings

_SAFE = (str, int, float, bool, bytes, type(None), type(MISSING))
_readings = Readings()


@dataclass(frozen=True, slots=True)
class Form:
    """Fields by name, inputs first; read-only."""

    fields: Mapping[str, Field]
    inputs: Mapping[str, Field]
    outputs: Mapping[str, Field]
    wording: str

    @classmethod
    def of(cls, fields: Iterable[Field]) -> Form:
        """Return the form of the fields."""
        given = list(fields)
        inputs = {one.name: one for one in given if one.is_input}
        outputs = {one.name: one for one in given if not one.is_input}
        wording = f"Given the fields {_quoted(inputs)}, produce the fields {_quoted(outputs)}."
        return cls(MappingProxyType({**inputs, **outputs}), MappingProxyType(inputs), MappingProxyType(outputs), wording)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join([f"`{name}`" for name in names])


def read_form(text: str, names: Names) -> Form:
    """Return the form of DSPy's one-line text; an equal text whose names mean the same is read once.

    Raises:
        SignatureSyntaxError: With line, caret and what was expected.
    """
    form = _readings.find(text, names)
    if not isinstance(form, Form):
        since = len(names.lookups)
        form = Form.of(read_line(Piece(text, 0, len(text)), names))
        _readings.keep(text, names, since, form)
    if all(isinstance(one.default, _SAFE) for one in form.fields.values()):
        return form
    # A default such as [] belongs to one signature: what is done to it there must not show in the next.
    return Form.of(replace(one, default=copy.deepcopy(one.default)) for one in form.fields.values())
