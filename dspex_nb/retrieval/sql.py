"""`SqlCollection`: passages in a table of a database that speaks SQL; values are parameters, names are checked."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from dspex_nb.retrieval.blocks import Block, Row
from dspex_nb.retrieval.collection import Collection
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.filters import Compare

Statement = tuple[str, list[Any]]
HELD = "SELECT id FROM {table} WHERE {among}"
ALL = "SELECT id, text, metadata FROM {table}"
SIZE = "SELECT count(*) FROM {table}"


class SqlDialect(Dialect[Statement]):
    """Conditions as SQL with parameters.

    Args:
        holds: The condition that `facts` holds one of the tokens of a parameter.
        tokens: Makes the parameter of a list of tokens.
        order: Gives an order as SQL with its parameters, or None where the database compares otherwise than we promise.
    """

    def __init__(
        self,
        holds: str,
        tokens: Callable[[list[str]], Any] = json.dumps,
        order: Callable[[Compare], Statement | None] = lambda _: None,
    ) -> None:
        self._holds, self._tokens, self._order = holds, tokens, order

    def holds(self, tokens: list[str]) -> Statement:
        """Return the condition with the tokens as one parameter."""
        return self._holds, [self._tokens(tokens)]

    def every(self, parts: list[Statement]) -> Statement:
        """Return the parts joined by AND."""
        return _joined(" AND ", parts)

    def some(self, parts: list[Statement]) -> Statement:
        """Return the parts joined by OR."""
        return _joined(" OR ", parts)

    def opposite(self, part: Statement) -> Statement:
        """Return NOT the part."""
        return f"(NOT {part[0]})", part[1]

    def order(self, asked: Compare) -> Statement | None:
        """Return what `order` gives."""
        return self._order(asked)


class SqlCollection(Collection):
    """Base of collections in SQL. `{table}`, `{dimension}` and `{where}` in the statements are filled in.

    Attributes:
        making: Statements that make what holds the rows.
        putting: Statements that store one row, each with the values that `_values` gives for it.
        finding: Gives id, text, metadata and number of the nearest; parameters: the vector, those of `{where}`, and k.
        removing: Statements that remove the rows of one list of ids.
        among: The condition that an id is in the list of a parameter.
    """

    making: ClassVar[tuple[str, ...]]
    putting: ClassVar[tuple[str, ...]]
    finding: ClassVar[str]
    removing: ClassVar[tuple[str, ...]] = ("DELETE FROM {table} WHERE {among}",)
    among: ClassVar[str] = ""
    about: ClassVar[tuple[str, ...]] = (
        "CREATE TABLE IF NOT EXISTS {table}_about (dimension INTEGER)",
        "INSERT INTO {table}_about VALUES ({dimension})",
    )

    @abstractmethod
    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""

    @abstractmethod
    def _run_all(self, statements: list[tuple[str, list[Sequence[Any]]]]) -> None:
        """Run each statement once for each of its values, all in one transaction."""

    @abstractmethod
    def _has_table(self) -> bool:
        """Return whether the table is there."""

    def _values(self, row: Row) -> list[Sequence[Any]]:
        """Return the values of a row for each of the statements that store it."""
        return [(row.id, row.text, row.metadata, self._facts(row.facts), self._vector(row.vector))]

    def _facts(self, facts: list[str]) -> Any:
        written = '","'.join(facts)  # hex digits need no escaping
        return f'["{written}"]'

    def _vector(self, vector: Any) -> Any:
        return json.dumps(vector)

    def _ids(self, ids: list[str]) -> Any:
        return json.dumps(ids, ensure_ascii=False)

    def _find_table(self, table: str) -> None:
        """Take up a table that is there already."""
        self._table = table
        if self._has_table():
            self._dimension = int(self._run(self._said("SELECT dimension FROM {table}_about"))[0][0])

    def _said(self, statement: str, where: str = "", dimension: int = 0) -> str:
        return _filled(statement, self._table, where, dimension, self.among)

    def _create(self, dimension: int) -> None:
        for statement in (*self.making, *self.about):
            self._run(self._said(statement, dimension=dimension))

    def _write(self, rows: Block) -> None:
        self._run_all(self.to_put(rows))

    def _remove(self, ids: list[str]) -> None:
        self._run_all(self.to_remove(ids))

    def _held(self, ids: list[str]) -> Iterable[str]:
        return [row[0] for row in self._run(*self.to_look(ids))]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        return self._run(self._said(ALL))

    def _size(self) -> int:
        return int(self._run(self._said(SIZE))[0][0])

    def _found(self, vector: Any, k: int, where: Statement | None) -> Iterable[tuple[str, str, str, float]]:
        return self._run(*self.to_find(vector, k, where))

    def to_put(self, rows: Block) -> list[tuple[str, list[Sequence[Any]]]]:
        """Return the statements that store rows, each with its values for all of them."""
        values = [self._values(row) for row in rows]
        return [(self._said(statement), [each[at] for each in values]) for at, statement in enumerate(self.putting)]

    def to_remove(self, ids: list[str]) -> list[tuple[str, list[Sequence[Any]]]]:
        """Return the statements that remove rows, each with its values."""
        return [(self._said(statement), [(self._ids(ids),)]) for statement in self.removing]

    def to_look(self, ids: list[str]) -> Statement:
        """Return the statement that tells which ids are there, with its values."""
        return self._said(HELD), [self._ids(ids)]

    def to_find(self, vector: Any, k: int, where: Statement | None) -> Statement:
        """Return the statement that finds the nearest, with its values."""
        condition, values = where or ("1 = 1", [])
        return self._said(self.finding, where=condition), [self._vector(vector), *values, k]


@lru_cache(maxsize=256)  # every search fills in the same ones
def _filled(statement: str, table: str, where: str, dimension: int, among: str) -> str:
    return statement.format(table=table, where=where, dimension=dimension, among=among)


def _joined(word: str, parts: list[Statement]) -> Statement:
    return f"({word.join(text for text, _ in parts)})", [value for _, values in parts for value in values]
