"""The body of a `%%signature` cell: prose, fields with comments, a lone arrow between inputs and outputs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dspex_nb.signatures.fields import Field
from dspex_nb.signatures.grammar import Piece, comment_start, find_arrows, marks, name_of, read_field, read_line, refuse_twice
from dspex_nb.signatures.types import TypeReadError, read_type


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell says: the instructions (None if it has no prose) and the fields."""

    instructions: str | None
    fields: tuple[Field, ...]


def read_cell(text: str, types: Mapping[str, Any]) -> Cell:
    """Read a cell's body.

    Prose before the first field is the instructions; `# …` behind a field is its description, continued by indented
    comment lines below it; a comment line at the margin is a remark to the reader and means nothing.

    Raises:
        SignatureSyntaxError: With line, caret and what was expected.
    """
    lines = list(_lines(text))
    written = [line for line in lines if line.text.strip()]
    if not written:
        Piece(text, 0, 0).fail("the cell has no fields", "write inputs, a line with '->', outputs; or 'question -> answer'")
    if any(_is_arrow(line) for line in written):
        return _grid(lines, types)
    if find_arrows(written[-1].text):
        return _one_line(lines, written[-1], types)
    arrows = find_arrows(text)
    if arrows and depth_before(text, arrows[0]) == 0 and len(arrows) == 1:
        line = next(line for line in written if line.start <= arrows[0] < line.end)
        after = Piece(text, line.end, len(text)).stripped()
        after.fail("found text behind the one-line form", "put a lone '->' on its own line between inputs and outputs")
    end = written[-1]
    return end.fail(
        "expected '->' between the inputs and the outputs", "put '->' on a line of its own before the outputs", len(end.text)
    )


def depth_before(text: str, index: int) -> int:
    """Return how many brackets are open at `index`."""
    depth = 0
    for mark in marks(text[:index]):
        depth = mark.depth
    return depth


def _lines(text: str) -> Iterator[Piece]:
    """Yield the lines; one with an open bracket goes on to the line that closes it."""
    start, bounds = 0, []
    for part in text.split("\n"):
        bounds.append((start, start + len(part)))
        start += len(part) + 1
    index = 0
    while index < len(bounds):
        begin, end = bounds[index]
        while _is_field(text[begin:end]) and depth_before(text, end) - depth_before(text, begin) > 0 and index + 1 < len(bounds):
            following = text[slice(*bounds[index + 1])]
            if following.strip() == "->" or re.match(r"\s*[^\W\d]\w*\s*:", following):
                break  # the bracket was forgotten: let its own line say so
            index += 1
            end = bounds[index][1]
        yield Piece(text, begin, end)
        index += 1


def _is_field(line: str) -> bool:
    return re.match(r"\s*[^\W\d]\w*\s*:", line) is not None


def _is_arrow(line: Piece) -> bool:
    return line.text[: comment_start(line.text)].strip() == "->"


def _prose(lines: list[Piece]) -> str | None:
    return inspect.cleandoc("\n".join(line.text for line in lines)).strip() or None


def _one_line(lines: list[Piece], last: Piece, types: Mapping[str, Any]) -> Cell:
    """Read a cell whose last line is DSPy's one-line form; lines above it are the instructions."""
    cut = comment_start(last.text)
    fields = read_line(last.at(0, cut), types)
    above = _prose([line for line in lines if line.end < last.start])
    comment = last.text[cut:].lstrip("#").strip()
    return Cell(above or comment or None, tuple(fields))


def _grid(lines: list[Piece], types: Mapping[str, Any]) -> Cell:
    """Read a cell with a lone arrow."""
    first = next(index for index, line in enumerate(lines) if _is_arrow(line) or _starts_fields(line, types))
    fields: list[Field] = []
    seen: set[str] = set()
    arrow: Piece | None = None
    for line in lines[first:]:
        if _is_arrow(line):
            if arrow is not None:
                line.stripped().fail("found a second '->'; a signature has one", "list all outputs below the first")
            arrow = line
        elif line.text.strip():
            _take(line, fields, seen, types, is_input=arrow is None)
    if arrow is not None and not any(not field.is_input for field in fields):
        arrow.fail("no output field below '->'", "write at least one, e.g. 'answer: str'", len(arrow.text))
    return Cell(_prose(lines[:first]), tuple(fields))


def _take(line: Piece, fields: list[Field], seen: set[str], types: Mapping[str, Any], *, is_input: bool) -> None:
    """Add the field of one line, or continue the description above."""
    cut = comment_start(line.text)
    code = line.at(0, cut)
    if code.text.strip():
        code, desc = _without_comments(line)
        refuse_twice(code, name_of(code), seen)
        fields.append(read_field(code, types, is_input=is_input, desc=desc))
    elif cut > 0 and fields:
        more = line.text[cut:].lstrip("#").strip()
        fields[-1] = replace(fields[-1], desc=f"{fields[-1].desc} {more}".strip())


def _without_comments(line: Piece) -> tuple[Piece, str]:
    """Return the code before the last comment, and every comment's text joined."""
    starts = [mark.at for mark in marks(line.text) if mark.char == "#"]
    words = [line.text[start:].split("\n", 1)[0].lstrip("#").strip() for start in starts]
    # Comments between brackets stay in the code: Python's parser skips them there.
    end = starts[-1] if starts and "\n" not in line.text[starts[-1] :] else len(line.text)
    return line.at(0, end), " ".join(word for word in words if word)


def _starts_fields(line: Piece, types: Mapping[str, Any]) -> bool:
    """Whether a line is the first field; `Note: answer in one word` is prose, `note: srt` is a field with a typo."""
    if not _is_field(line.text):
        return False
    code = line.text[: comment_start(line.text)]
    kind = re.split(r"[=]", code.split(":", 1)[1], maxsplit=1)[0].strip()
    words = re.match(r"([^\W\d][\w.]*)[,;.]?\s+\w", kind)
    if words is None:
        return re.match(r"[^\W\d]|['\"]|$", kind) is not None
    try:
        read_type(words[1], types)
    except TypeReadError:
        return False
    return True
