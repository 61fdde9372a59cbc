"""`CypherCollection`: passages as nodes of a graph database that speaks Cypher; values are parameters, names are checked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import Collection
from dspex_nb.retrieval.facts import Dialect, Written, quoted

REMOVING = "MATCH (p:{label}) WHERE p.id IN $ids DELETE p"
HELD = "MATCH (p:{label}) WHERE p.id IN $ids RETURN p.id"
ALL = "MATCH (p:{label}) RETURN p.id, p.text, p.metadata"
SIZE = "MATCH (p:{label}) RETURN count(p)"
_NAMES = ("id", "text", "metadata", "facts", "vector")


class CypherCollection(Collection):
    """Base of collections in Cypher. `{label}`, `{dimension}` and `{where}` in the statements are filled in.

    Attributes:
        making: Statements that make what holds the nodes.
        putting: Stores the rows of `$rows`.
        finding: Gives id, text, metadata and number of the nearest to `$vector`, at most `$k`.
    """

    dialect: ClassVar[Dialect[Any]] = Written(lambda tokens: f"any(fact IN p.facts WHERE fact IN [{quoted(tokens)}])")
    making: ClassVar[tuple[str, ...]] = ()
    putting: ClassVar[str]
    finding: ClassVar[str]
    _label: str

    @abstractmethod
    def _run(self, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
        """Run one statement and return its rows."""

    def _said(self, statement: str, where: str = "true") -> str:
        found = statement.replace("{label}", self._label).replace("{dimension}", str(self._dimension or 0))
        return found.replace("{where}", where)

    def _create(self, dimension: int) -> None:
        for statement in self.making:
            self._run(self._said(statement.replace("{dimension}", str(dimension))))

    def _write(self, rows: Block) -> None:
        self._run(self._said(self.putting), values_of(rows))

    def _remove(self, ids: list[str]) -> None:
        self._run(self._said(REMOVING), {"ids": ids})

    def _held(self, ids: list[str]) -> Iterable[str]:
        return [row[0] for row in self._run(self._said(HELD), {"ids": ids})]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        return self._run(self._said(ALL))

    def _size(self) -> int:
        return int(self._run(self._said(SIZE))[0][0])

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        return self._run(self._said(self.finding, where or "true"), {"vector": vector, "k": k})


def values_of(rows: Block) -> dict[str, Any]:
    """Return rows as the parameter of what stores them."""
    return {"rows": [{name: getattr(row, name) for name in _NAMES} for row in rows]}
