"""The text of fields: `name: type = default`, split, read and refused with line and column."""

from __future__ import annotations

import ast
import enum
import keyword
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn

from dspex_nb.errors import SignatureError, SignatureSyntaxError, did_you_mean
from dspex_nb.signatures.annotations import check_type, with_type
from dspex_nb.signatures.fields import MISSING, Field
from dspex_nb.signatures.names import Names
from dspex_nb.signatures.types import TypeReadError, is_type, read_type, type_text

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
        text = self.text
        start = self.start + len(text) - len(text.lstrip())
        return Piece(self.source, start, start + len(text.strip()))

    def fail(self, message: str, hint: str = "", offset: int = 0) -> NoReturn:
        """Raise a SignatureSyntaxError with the caret under `offset` of this piece."""
        place = min(self.start + offset, len(self.source))
        before = self.source[:place].split("\n")
        line = self.source.split("\n")[len(before) - 1]
        raise SignatureSyntaxError(message, hint=hint.strip(), line=len(before), column=len(before[-1]), text=line)


class Mark(NamedTuple):
    """A sign outside strings: where it is, what it is, how deep in brackets (behind it)."""

    at: int
    char: str
    depth: int


# Strings whole (one without its end as far as its line goes), comments whole, and the signs that order a signature.
_SIGNS = re.compile(
    r"""'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|(?P<open>'(?:\\.|[^'\\\n])*|"(?:\\.|[^"\\\n])*)|\#[^\n]*|->|[()\[\]{},:=]""",
    re.DOTALL,
)


def marks(text: str) -> Iterator[Mark]:
    """Yield brackets, commas, colons, `=` and `->` of `text` outside strings; a comment shows as its `#`."""
    depth = 0
    for found in _SIGNS.finditer(text):
        char = found[0]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char[0] == "#":
            char = "#"
        elif char[0] in "\"'":
            continue
        yield Mark(found.start(), char, depth)


def comment_start(text: str) -> int:
    """Return where the comment begins (a `#` outside a string), or the text's length."""
    if "#" not in text:
        return len(text)
    return next((mark.at for mark in marks(text) if mark.char == "#"), len(text))


def find_arrows(text: str) -> list[int]:
    """Return where `->` stands outside strings and comments."""
    return [mark.at for mark in marks(text) if mark.char == "->"]


def read_line(piece: Piece, names: Names | Mapping[str, Any]) -> list[Field]:
    """Return the fields of DSPy's one-line form `a, b: int -> c: str`; it may go over lines, with comments."""
    if not isinstance(names, Names):
        names = Names(names)
    piece = _without_comments(piece)
    arrows = find_arrows(piece.text)
    if not arrows:
        check_brackets(piece)
        piece.fail("expected '->' between the inputs and the outputs", "write e.g. 'question -> answer'", len(piece.text))
    if len(arrows) > 1:
        piece.fail("found a second '->'; a signature has one", "list the outputs after one '->', separated by commas", arrows[1])
    inputs, outputs = _split(piece.at(0, arrows[0])), _split(piece.at(arrows[0] + 2))
    fields = [read_field(part, names, is_input=True) for part in inputs]
    fields += [read_field(part, names, is_input=False) for part in outputs]
    if not outputs:
        piece.fail("no output field after '->'", "name at least one: 'question -> answer'", len(piece.text))
    seen: set[str] = set()
    for part, field in zip([*inputs, *outputs], fields, strict=True):
        refuse_twice(part, field.name, seen)
    return fields


def _without_comments(piece: Piece) -> Piece:
    """Return the piece with comments and continued lines blanked out, so that every place stays where it is."""
    text = piece.text
    if "#" not in text and "\\\n" not in text:
        return piece
    for found in _SIGNS.finditer(text):
        if found[0][0] == "#" and found.end() == len(text):
            piece.fail("the comment takes the rest of the text", "end its line, or leave it out", found.start())
    blank = _SIGNS.sub(lambda found: " " * len(found[0]) if found[0][0] == "#" else found[0], text).replace("\\\n", "  ")
    return Piece(piece.source[: piece.start] + blank + piece.source[piece.end :], piece.start, piece.end)


def refuse_twice(piece: Piece, name: str, seen: set[str]) -> None:
    """Raise if the field's name was used above; else remember it."""
    if name in seen:
        piece.stripped().fail(f"field {name!r} is declared twice", "inputs and outputs need distinct names")
    seen.add(name)


def name_of(piece: Piece) -> str:
    """Return what stands where a field's name does."""
    return re.split(r"[:=]", piece.text, maxsplit=1)[0].strip()


def _split(side: Piece) -> list[Piece]:
    """Split at top-level commas."""
    text = side.text
    if not text.strip():
        return []
    cuts = [mark.at for mark in marks(text) if mark.char == "," and mark.depth == 0] if "," in text else []
    parts = [side.at(start, end) for start, end in zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(text)], strict=True)]
    if len(parts) > 1 and not parts[-1].text.strip():
        parts.pop()  # a trailing comma, as Python allows
    return parts


def read_field(piece: Piece, names: Names | Mapping[str, Any], *, is_input: bool, desc: str = "") -> Field:
    """Return the field written as `name`, `name: type` or `name: type = default`."""
    if not isinstance(names, Names):
        names = Names(names)
    piece = piece.stripped()
    text = piece.text
    if text.isidentifier():
        return Field(name=check_name(piece), desc=desc, type=str, is_input=is_input, untyped=True, marked=is_input or None)
    signs = check_brackets(piece)
    colon = next((mark.at for mark in signs if mark.char == ":" and mark.depth == 0), None)
    equals = next((mark.at for mark in signs if mark.char == "=" and mark.depth == 0), None)
    if colon is not None and equals is not None and colon > equals:
        colon = None  # it belongs to the default
    name = check_name(piece.at(0, min(cut for cut in (colon, equals, len(text)) if cut is not None)).stripped())
    kind = MISSING if colon is None else _type(piece.at(colon + 1, equals), names)
    marked = (colon is None) if is_input else None
    one = with_type(Field(name=name, type=kind, desc=desc, is_input=is_input, marked=marked))
    if colon is not None:
        _check(piece.at(colon + 1, equals).stripped(), one)
    if equals is None:
        return one
    return replace(one, default=_default(piece.at(equals + 1), Any if one.untyped else one.type, names))


def _check(place: Piece, one: Field) -> None:
    try:
        check_type(one)
    except SignatureError as error:
        place.fail(error.message, error.hint)


def check_brackets(piece: Piece) -> list[Mark]:
    """Return the piece's signs; raise at a bracket that is not closed or never opened, or a string without its end."""
    text = piece.text
    if "'" in text or '"' in text:
        unclosed = next((found for found in _SIGNS.finditer(text) if found["open"]), None)
        if unclosed is not None:
            piece.fail(f"the string that begins with {unclosed[0][0]} is never closed", "close its quotes", unclosed.start())
    signs = list(marks(text))
    stack: list[Mark] = []
    for mark in signs:
        if mark.char in "([{":
            stack.append(mark)
        elif mark.char in ")]}" and (not stack or stack.pop().char != _CLOSERS[mark.char]):
            piece.fail(f"found {mark.char!r} without its opening bracket", "check the brackets of the type", mark.at)
    if stack:
        piece.fail(f"{stack[-1].char!r} is never closed", "close the bracket, e.g. list[str]", stack[-1].at)
    return signs


def check_name(name: Piece) -> str:
    """Return the field's name as Python spells it (`ﬁ` is `fi`); raise unless the text can name a field."""
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
    if text == "model_config":
        name.fail("'model_config' cannot name a field: pydantic keeps its settings there", "write e.g. 'config'")
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _type(piece: Piece, names: Names) -> Any:
    if not piece.text.strip():
        piece.fail("expected a type after ':'", "write e.g. 'urgency: int', or leave ':' out for text")
    try:
        kind = read_type(piece.text, names)
    except TypeReadError as error:
        piece.fail(error.message, error.hint, error.offset)
    # DSPy reads a lone None as text, which is what prompts then say; NoneType is its way to write the other.
    return str if kind is type(None) and piece.text.strip() == "None" else kind


def _default(piece: Piece, kind: Any, names: Names) -> Any:
    part = piece.stripped()
    if not part.text:
        part.fail("expected a default after '='", "write e.g. 'history: list[str] = []'")
    try:
        value = _literal(part, names)
    except SyntaxError as error:
        part.fail(
            f"expected a default value, found {part.text!r}",
            "a literal such as 3, 'text', [] or None",
            max((error.offset or 1) - 1, 0),
        )
    _check_default(part, kind, value)
    return value


def _literal(part: Piece, names: Names) -> Any:
    tree = ast.parse(part.text, mode="eval").body
    try:
        return ast.literal_eval(tree)
    except (ValueError, TypeError):
        pass
    if isinstance(tree, ast.Attribute) and isinstance(tree.value, ast.Name):
        owner = names.get(tree.value.id)
        if isinstance(owner, enum.EnumMeta):
            if tree.attr in owner.__members__:
                return owner[tree.attr]
            part.fail(
                f"{tree.value.id!r} has no member {tree.attr!r}",
                did_you_mean(tree.attr, owner.__members__) or f"members: {', '.join(owner.__members__)}",
            )
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
        part.fail(f"the default {part.text} is not a {type_text(kind)}", "change the default or the type")
