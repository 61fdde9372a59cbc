"""The text of fields: `name: type = default`, split, read and refused with line and column."""

from __future__ import annotations

import ast
import enum
import itertools
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from dspex_nb.errors import SignatureSyntaxError, did_you_mean
from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.types import TypeReadError, is_type, read_type

_CLOSERS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a cell's text; it knows the whole, so every error has its line and caret."""

    source: str
    start: int
    end: int

    @property
    def text(self) -> str:
        """The stretch itself."""
        return self.source[self.start : self.end]

    def at(self, start: int, end: int | None = None) -> Piece:
        """Return the part from `start` to `end`, counted within this piece."""
        return Piece(self.source, self.start + start, self.end if end is None else self.start + end)

    def stripped(self) -> Piece:
        """Return the part without blanks at both ends."""
        lead = len(self.text) - len(self.text.lstrip())
        return Piece(self.source, self.start + lead, self.start + lead + len(self.text.strip()))

    def fail(self, message: str, hint: str = "", offset: int = 0) -> NoReturn:
        """Raise a SignatureSyntaxError with the caret under `offset` of this piece."""
        place = min(self.start + offset, len(self.source))
        before = self.source[:place].split("\n")
        line = self.source.split("\n")[len(before) - 1]
        raise SignatureSyntaxError(message, hint=hint.strip(), line=len(before), column=len(before[-1]), text=line)


@dataclass(frozen=True, slots=True)
class Mark:
    """A character outside strings: where it is, what it is, how deep in brackets."""

    index: int
    char: str
    depth: int


def marks(text: str) -> Iterator[Mark]:
    """Yield the characters of `text` outside string literals and comments; a comment itself shows as its `#`."""
    depth, quote, comment, index = 0, "", False, 0
    while index < len(text):
        char = text[index]
        if comment:
            comment = char != "\n"
        elif quote:
            if char == "\\":
                index += 1
            elif char in (quote, "\n"):
                quote = ""
        elif char in "\"'":
            quote = char
        else:
            comment = char == "#"
            depth += (char in "([{") - (char in ")]}")
            yield Mark(index, char, depth)
        index += 1


def comment_start(text: str) -> int:
    """Return where the comment begins (a `#` outside a string), or the text's length."""
    return next((mark.index for mark in marks(text) if mark.char == "#"), len(text))


def find_arrows(text: str) -> list[int]:
    """Return where `->` stands outside strings and comments."""
    plain = [(mark.index, mark.char) for mark in marks(text)]
    return [at for (at, char), (after, following) in itertools.pairwise(plain)
            if char == "-" and following == ">" and after == at + 1]  # fmt: skip


def depth_at_end(text: str) -> int:
    """Return how many brackets are still open at the end of `text`."""
    depth = 0
    for mark in marks(text):
        depth = mark.depth
    return depth


def read_line(piece: Piece, types: Mapping[str, Any]) -> list[Field]:
    """Return the fields of DSPy's one-line form `a, b: int -> c: str`."""
    arrows = find_arrows(piece.text)
    if not arrows:
        piece.fail("expected '->' between the inputs and the outputs", "write e.g. 'question -> answer'", len(piece.text))
    if len(arrows) > 1:
        piece.fail("found a second '->'; a signature has one", "list the outputs after one '->', separated by commas", arrows[1])
    sides = (piece.at(0, arrows[0]), piece.at(arrows[0] + 2))
    fields = [read_field(part, types, is_input=side == 0) for side in (0, 1) for part in _split(sides[side])]
    if not any(not field.is_input for field in fields):
        piece.fail("no output field after '->'", "name at least one: 'question -> answer'", len(piece.text))
    seen: set[str] = set()
    for side in sides:
        for part in _split(side):
            refuse_twice(part, seen)
    return fields


def refuse_twice(piece: Piece, seen: set[str]) -> None:
    """Raise if the field's name was used above; else remember it."""
    name = _name_of(piece)
    if name in seen:
        piece.stripped().fail(f"field {name!r} is declared twice", "inputs and outputs need distinct names")
    seen.add(name)


def _name_of(piece: Piece) -> str:
    return re.split(r"[:=]", piece.text, maxsplit=1)[0].strip()


def _split(side: Piece) -> list[Piece]:
    """Split at top-level commas."""
    cuts = [mark.index for mark in marks(side.text) if mark.char == "," and mark.depth == 0]
    bounds = zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(side.text)], strict=True)
    parts = [side.at(start, end) for start, end in bounds]
    if len(parts) == 1 and not parts[0].text.strip():
        return []
    if not parts[-1].text.strip() and len(parts) > 1:
        parts.pop()  # a trailing comma, as Python allows
    return parts


def read_field(piece: Piece, types: Mapping[str, Any], *, is_input: bool, desc: str = "") -> Field:
    """Return the field written as `name`, `name: type` or `name: type = default`."""
    piece = piece.stripped()
    check_brackets(piece)
    colon = next((mark.index for mark in marks(piece.text) if mark.char == ":" and mark.depth == 0), None)
    equals = next((mark.index for mark in marks(piece.text) if mark.char == "=" and mark.depth == 0), None)
    name = piece.at(0, min(cut for cut in (colon, equals, len(piece.text)) if cut is not None)).stripped()
    check_name(name)
    default: Any = MISSING
    kind: Any = str
    if colon is not None:
        kind = _type(piece.at(colon + 1, equals), types)
    if equals is not None:
        default = _default(piece.at(equals + 1), Any if colon is None else kind, types)
    return Field(name=name.text, type=kind, desc=desc, is_input=is_input, default=default, untyped=colon is None)


def check_brackets(piece: Piece) -> None:
    """Raise at a bracket that is not closed or never opened, or a string without its end."""
    stack: list[tuple[str, int]] = []
    for mark in marks(piece.text):
        if mark.char in "([{":
            stack.append((mark.char, mark.index))
        elif mark.char in ")]}" and (not stack or stack.pop()[0] != _CLOSERS[mark.char]):
            piece.fail(f"found {mark.char!r} without its opening bracket", "check the brackets of the type", mark.index)
    if stack:
        piece.fail(f"{stack[-1][0]!r} is never closed", "close the bracket, e.g. list[str]", stack[-1][1])


def check_name(name: Piece) -> None:
    """Raise unless the text can name a field."""
    text = name.text
    if not text:
        name.fail("expected a field name", "write e.g. 'question: str'")
    if not text.isidentifier():
        bad = next((at for at in range(1, len(text) + 1) if not text[:at].isidentifier()), 1) - 1
        plain = re.sub(r"\W+", "_", text).strip("_")
        suggestion = f"write e.g. '{plain}'" if plain.isidentifier() else "write e.g. 'question'"
        name.fail(f"{text!r} is not a field name: letters, digits and _ only, no digit first", suggestion, bad)
    if keyword.iskeyword(text):
        name.fail(f"{text!r} is a Python keyword, not a field name", f"write e.g. '{text}_'")
    if text.startswith("_"):
        name.fail(f"the field name {text!r} starts with an underscore", f"write e.g. '{text.lstrip('_') or 'field'}'")


def _type(piece: Piece, types: Mapping[str, Any]) -> Any:
    if not piece.text.strip():
        piece.fail("expected a type after ':'", "write e.g. 'urgency: int', or leave ':' out for text")
    try:
        return read_type(piece.text, types)
    except TypeReadError as error:
        piece.fail(error.message, error.hint, error.offset)


def _default(piece: Piece, kind: Any, types: Mapping[str, Any]) -> Any:
    part = piece.stripped()
    if not part.text:
        part.fail("expected a default after '='", "write e.g. 'history: list[str] = []'")
    try:
        value = _literal(part, types)
    except SyntaxError as error:
        part.fail(
            f"expected a default value, found {part.text!r}",
            "a literal such as 3, 'text', [] or None",
            max((error.offset or 1) - 1, 0),
        )
    _check_default(part, kind, value)
    return value


def _literal(part: Piece, types: Mapping[str, Any]) -> Any:
    tree = ast.parse(part.text, mode="eval").body
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError):
        pass
    if isinstance(tree, ast.Attribute) and isinstance(tree.value, ast.Name):
        owner = types.get(tree.value.id)
        if isinstance(owner, enum.EnumMeta):
            if tree.attr in owner.__members__:
                return owner[tree.attr]
            part.fail(f"{tree.value.id!r} has no member {tree.attr!r}", did_you_mean(tree.attr, owner.__members__).rstrip())
    return part.fail(
        f"a default is a literal, not {part.text!r}", "write a value such as 3, 'text', [], None, or an enum's member"
    )


def _check_default(part: Piece, kind: Any, value: Any) -> None:
    if value is None or not is_type(kind):
        return
    from dspex_nb.signatures.codecs import validate

    try:
        validate(value, kind)
    except Exception:  # noqa: BLE001 - pydantic and user validators may raise anything; each means the default does not fit
        from dspex_nb.signatures.types import type_text

        part.fail(f"the default {part.text} is not a {type_text(kind)}", "change the default or the type")
