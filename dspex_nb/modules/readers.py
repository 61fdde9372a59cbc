"""Readers of an answer that is still coming: whose field each new character belongs to, as the adapter's parser will say.

A reader is fed pieces and yields `FieldEvent`s. What it cannot tell from what has come it holds back, so that no marker,
half an escape or trailing space is ever shown. On well-formed answers the deltas of a text field add up to its value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from dspex_nb.predictions import FieldEvent

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_OPEN, _CLOSE = "[[ ## ", " ## ]]"
_NAME = re.compile(r"\w*")
_PLAIN = re.compile(r'[^"\\]*')
_NESTED = re.compile(r'[^"{}\[\],]*')
_SPACE = re.compile(r"[ \t\r\n]*")
# The two halves of a surrogate pair are one character, so the first half waits for what follows it.
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|[^u])", re.DOTALL)
_UNFINISHED = re.compile(r"\\(?:u.{0,3}|u[dD][89abAB]..(?:\\(?:u(?:[dD](?:[c-fC-F].?)?)?)?)?)?\Z", re.DOTALL)


class Reader(Protocol):
    """Reads one answer, watching for the fields it was made with."""

    def __init__(self, fields: Iterable[str]) -> None: ...

    def feed(self, text: str) -> Iterator[FieldEvent]:
        """Take a piece and yield what it settles."""
        ...

    def finish(self) -> Iterator[FieldEvent]:
        """Yield what the end of the answer settles."""
        ...


def reader_for(adapter_name: str, fields: Iterable[str]) -> Reader:
    """Return the reader of an adapter's format that watches for these fields."""
    known: dict[str, type[Reader]] = {"chat": ChatReader, "json": ObjectReader, "compact": ObjectReader}
    return known.get(adapter_name, WholeReader)(fields)


class WholeReader:
    """Reads nothing: of an adapter whose format is not known here, the fields come at the end."""

    def __init__(self, fields: Iterable[str]) -> None:
        del fields

    def feed(self, text: str) -> Iterator[FieldEvent]:
        """Yield nothing."""
        del text
        yield from ()

    def finish(self) -> Iterator[FieldEvent]:
        """Yield nothing."""
        yield from ()


class _Trimmed:
    """A text that grows, without the space around it."""

    __slots__ = ("begun", "held")

    def __init__(self) -> None:
        self.begun, self.held = False, ""

    def add(self, text: str) -> str:
        """Return what can be shown: not the space at the start, and space inside only once something follows it."""
        text = self.held + text
        if not self.begun:
            text = text.lstrip()
        shown = text.rstrip()
        self.held = text[len(shown) :]
        self.begun = self.begun or bool(shown)
        return shown


class ChatReader:
    """Reads sections under `[[ ## name ## ]]` headers; the first of two of one name counts, others are passed over."""

    def __init__(self, fields: Iterable[str]) -> None:
        self._waiting = set(fields)
        self._field: str | None = None
        self._text = _Trimmed()
        self._tail = ""  # of the input: it may be half of a line break
        self._line = ""  # the current line, while it may yet become a header
        self._settled = self._heading = False

    def feed(self, text: str) -> Iterator[FieldEvent]:
        """Take a piece and yield what it settles."""
        lines = (self._tail + text).splitlines(keepends=True)
        self._tail = ""
        if lines and lines[-1].endswith("\r"):  # the next piece may begin with its \n
            last = lines.pop()
            self._tail = "\r"
            lines.append(last[:-1])
        for line in lines:
            body = line.splitlines()[0] if line else ""
            yield from self._take(body)
            if len(body) < len(line):
                yield from self._end_line()

    def finish(self) -> Iterator[FieldEvent]:
        """Yield what the end of the answer settles."""
        if not self._settled:
            yield from self._show(self._line)
        yield from self._leave()

    def _take(self, body: str) -> Iterator[FieldEvent]:
        if self._settled:
            yield from self._show(body)
            return
        self._line += body
        start = self._line.lstrip()
        header = _HEADER.match(start)
        if header:
            yield from self._leave()
            yield from self._enter(header.group(1))
            self._settled = self._heading = True
            # Where the line is indented, its parser too counts from the line's first character.
            yield from self._show(self._line[header.end() :])
        elif not _may_be_header(start):
            self._settled = True
            yield from self._show(self._line)

    def _end_line(self) -> Iterator[FieldEvent]:
        if not self._settled:
            yield from self._show(self._line)
        if self._heading:
            self._text.held = ""  # the rest of a header's line counts without the space around it
        self._line, self._settled, self._heading = "", False, False
        yield from self._show("\n")

    def _enter(self, name: str) -> Iterator[FieldEvent]:
        if name in self._waiting:
            self._waiting.remove(name)
            self._field, self._text = name, _Trimmed()
            yield FieldEvent("start", name)

    def _leave(self) -> Iterator[FieldEvent]:
        if self._field is not None:
            yield FieldEvent("end", self._field)
            self._field = None

    def _show(self, text: str) -> Iterator[FieldEvent]:
        if self._field is not None and (shown := self._text.add(text)):
            yield FieldEvent("delta", self._field, shown)


def _may_be_header(start: str) -> bool:
    """Return whether a line that begins so can still become a header."""
    if not start.startswith(_OPEN):
        return _OPEN.startswith(start)
    name = _NAME.match(start, len(_OPEN))
    after = start[name.end() :] if name else start
    return _CLOSE.startswith(after) and (not after or bool(name and name.group()))


class ObjectReader:
    """Reads the first JSON object: text values as they grow, unescaped; other values as they are written."""

    def __init__(self, fields: Iterable[str]) -> None:
        self._waiting = set(fields)
        self._field: str | None = None
        self._rest = ""
        self._step = self._seek
        self._text = _Trimmed()
        self._depth, self._quoted = 0, False

    def feed(self, text: str) -> Iterator[FieldEvent]:
        """Take a piece and yield what it settles."""
        self._rest += text
        while self._rest:
            before = (len(self._rest), self._step)
            yield from self._step()
            if (len(self._rest), self._step) == before:
                return  # more is needed

    def finish(self) -> Iterator[FieldEvent]:
        """Yield what the end of the answer settles: a field cut off ends here."""
        yield from self._leave()

    def _seek(self) -> Iterator[FieldEvent]:
        at = self._rest.find("{")
        self._rest = self._rest[at + 1 :] if at >= 0 else ""
        if at >= 0:
            self._step = self._key
        yield from ()

    def _key(self) -> Iterator[FieldEvent]:
        """Read `"name":`; a text that is none ends the reading."""
        self._rest = self._rest.lstrip(" \t\r\n,")
        if self._rest and self._rest[0] != '"':
            self._stop()
            return
        end = _closing_quote(self._rest)
        if end is None:
            return
        colon = _SPACE.match(self._rest, end + 1)
        after = colon.end() if colon else end + 1
        if after >= len(self._rest):
            return
        try:
            name = json.loads(self._rest[: end + 1], strict=False)
        except ValueError:
            name = ""
        if self._rest[after] != ":":
            self._stop()
            return
        self._rest, self._step = self._rest[after + 1 :], self._value
        if name in self._waiting:
            self._waiting.remove(name)
            self._field = name
            yield FieldEvent("start", name)

    def _value(self) -> Iterator[FieldEvent]:
        self._rest = self._rest.lstrip(" \t\r\n")
        if self._rest.startswith('"'):
            self._rest, self._step = self._rest[1:], self._string
        elif self._rest:
            self._text, self._depth, self._quoted, self._step = _Trimmed(), 0, False, self._raw
        yield from ()

    def _string(self) -> Iterator[FieldEvent]:
        pieces: list[str] = []
        at, text = 0, self._rest  # cut once at the end: a cached answer comes whole, and its escapes are many
        while at < len(text):
            plain = _PLAIN.match(text, at)
            end = plain.end() if plain else at
            pieces.append(text[at:end])
            at = end
            if text.startswith('"', at):
                at, self._step = at + 1, self._after
                break
            after = _escape_end(text, at)
            if after is None:
                break
            pieces.append(_unescaped(text[at:after]))
            at = after
        self._rest = text[at:]
        yield from self._show("".join(pieces))
        if self._step == self._after:
            yield from self._leave()

    def _raw(self) -> Iterator[FieldEvent]:
        """Read a number, word, list or object up to the comma or brace that ends it, as it is written."""
        at, text = 0, self._rest
        while at < len(text):
            if self._quoted:
                plain = _PLAIN.match(text, at)
                at = plain.end() if plain else at
                if at < len(text) and text[at] == "\\":
                    if at + 1 >= len(text):
                        break  # what is escaped comes with the next piece
                    at += 2
                elif at < len(text):
                    at, self._quoted = at + 1, False
                continue
            nested = _NESTED.match(text, at)
            at = nested.end() if nested else at
            if at >= len(text):
                break
            if self._depth == 0 and text[at] in ",}]":
                yield from self._show(self._text.add(text[:at]))
                self._rest, self._step = text[at:], self._after
                yield from self._leave()
                return
            self._quoted = text[at] == '"'
            self._depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(text[at], 0)
            at += 1
        self._rest = text[at:]
        yield from self._show(self._text.add(text[:at]))

    def _after(self) -> Iterator[FieldEvent]:
        """After a value: a comma leads to the next key, all else ends the object."""
        self._rest = self._rest.lstrip(" \t\r\n")
        if self._rest.startswith(","):
            self._rest, self._step = self._rest[1:], self._key
        elif self._rest:
            self._stop()
        yield from ()

    def _done(self) -> Iterator[FieldEvent]:
        self._rest = ""
        yield from ()

    def _stop(self) -> None:
        self._rest, self._step = "", self._done

    def _leave(self) -> Iterator[FieldEvent]:
        if self._field is not None:
            yield FieldEvent("end", self._field)
            self._field = None

    def _show(self, text: str) -> Iterator[FieldEvent]:
        if self._field is not None and text:
            yield FieldEvent("delta", self._field, text)


def _closing_quote(text: str) -> int | None:
    """Return where the string that begins `text` ends, None if it has not yet."""
    at = 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == '"':
            return at
        else:
            at += 1
    return None


def _escape_end(text: str, at: int) -> int | None:
    """Return where the escape that begins at `at` ends, None while it is not all there."""
    found = None if _UNFINISHED.match(text, at) else _ESCAPE.match(text, at)
    return found.end() if found else None


def _unescaped(escape: str) -> str:
    try:
        return str(json.loads(f'"{escape}"'))
    except ValueError:  # no escape of JSON's: shown as written
        return escape
