"""`Place`: where in a cell something stands, so that every error can point at it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace

from dspex_nb.errors import PipelineSyntaxError, PlanError


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a cell's body; all zero for steps built in plain Python.

    Attributes:
        line: First line, from 1; 0 means no cell.
        column: First character of it, from 0.
        end_line: Last line.
        end_column: The character after its last.
        lines: All lines of the body.
    """

    line: int = 0
    column: int = 0
    end_line: int = 0
    end_column: int = 0
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, node: ast.expr | ast.stmt | ast.keyword, lines: tuple[str, ...]) -> Place:
        """Return the place of a syntax tree node; the tree counts UTF-8 bytes, a caret counts characters."""
        end_line = node.end_lineno or node.lineno
        return cls(
            node.lineno, _characters(lines, node.lineno, node.col_offset), end_line,
            _characters(lines, end_line, node.end_col_offset or node.col_offset), lines,
        )  # fmt: skip

    @property
    def text(self) -> str:
        """The source that stands here."""
        stretch = list(self.lines[self.line - 1 : self.end_line]) if self.line else []
        if not stretch:
            return ""
        stretch[-1] = stretch[-1][: self.end_column]
        stretch[0] = stretch[0][self.column :]
        return "\n".join(stretch)

    def find(self, word: str) -> Place:
        """Return the place of `word` within this one, or this one where it does not occur."""
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        for number in range(self.line, self.end_line + 1 if self.line else 0):
            whole = self.lines[number - 1]
            start = self.column if number == self.line else 0
            stop = self.end_column if number == self.end_line else len(whole)
            if match := pattern.search(whole[:stop], start):
                return replace(self, line=number, column=match.start(), end_line=number, end_column=match.end())
        return self

    def syntax_error(self, message: str, hint: str = "") -> PipelineSyntaxError:
        """Return the error of a cell that cannot be read, pointing here."""
        return PipelineSyntaxError(message, hint=hint, line=self.line, column=self.column, text=self._whole())

    def plan_error(self, message: str, hint: str = "") -> PlanError:
        """Return the error of a graph that cannot run, pointing here."""
        return PlanError(message, hint=hint, line=self.line, column=self.column, text=self._whole())

    def _whole(self) -> str:
        return self.lines[self.line - 1] if 0 < self.line <= len(self.lines) else ""


NOWHERE = Place()
"""The place of what was not written in a cell."""


def _characters(lines: tuple[str, ...], line: int, offset: int) -> int:
    whole = lines[line - 1] if 0 < line <= len(lines) else ""
    return len(whole.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "replace"))
