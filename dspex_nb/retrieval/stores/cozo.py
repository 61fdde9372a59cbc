"""`Cozo`: a relation of CozoDB, an embedded database that speaks Datalog."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.blocks import Block
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.facts import Dialect, facts_of
from dspex_nb.retrieval.later import LaterFacts
from dspex_nb.retrieval.metadata import metadata_of

_FIELDS = "id, text, metadata, facts, vector"
_WRITTEN = "id, text, metadata, vector"


class CozoDialect(Dialect[str]):
    """Expressions of CozoScript: functions, no words between."""

    def holds(self, tokens: list[str]) -> str:
        """Return that the lists have something in common."""
        written = ", ".join(f"'{one}'" for one in tokens)  # hex digits
        return f"(length(intersection(facts, [{written}])) > 0)"

    def every(self, parts: list[str]) -> str:
        """Return them in `and`."""
        return f"and({', '.join(parts)})"

    def some(self, parts: list[str]) -> str:
        """Return them in `or`."""
        return f"or({', '.join(parts)})"

    def opposite(self, part: str) -> str:
        """Return it in `negate`."""
        return f"negate({part})"


class Cozo(LaterFacts):
    """Passages in a CozoDB relation; vectors are compared one by one.

    Facts for filters are given to new rows at the first search with a filter.

    Args:
        path: The file; in memory if None.
        relation: The relation's name.
    """

    name = "cozo"
    metric = "cosine distance"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = CozoDialect()

    def _open(self, *, path: str | Path | None = None, relation: str = DEFAULT_NAME) -> None:
        from pycozo.client import Client

        self.kept = kept_at(path)
        self._name = safe_name(relation, "relation")
        self._client = Client("mem" if path is None else "sqlite", "" if path is None else str(path), dataframe=False)
        if any(row[0] == f"{self._name}_about" for row in self._run("::relations")):
            self._dimension = int(self._run(f"?[dimension] := *{self._name}_about{{dimension}}")[0][0])

    def close(self) -> None:
        """Close the file."""
        self._client.close()

    def _run(self, script: str, **values: Any) -> list[list[Any]]:
        return self._client.run(script, values)["rows"]  # type: ignore[no-any-return]

    def _create(self, dimension: int) -> None:
        columns = f"id: String => text: String, metadata: String, facts: [String] default [], vector: <F32; {dimension}>"
        self._run(f":create {self._name} {{{columns}}}")
        self._run(f":create {self._name}_about {{dimension: Int}}")
        self._run(f"?[dimension] <- [[{dimension}]] :put {self._name}_about {{dimension}}")

    def _write_bare(self, rows: Block) -> None:
        values = list(map(list, zip(rows.ids, rows.texts, rows.metadata, rows.vectors, strict=True)))
        self._run(f"?[{_WRITTEN}] <- $rows :put {self._name} {{id => text, metadata, vector}}", rows=values)

    def _take_up_facts(self) -> None:
        """Give facts to the rows that have none."""
        lacking = f"?[id, metadata] := *{self._name}{{id, metadata, facts}}, length(facts) == 0 :limit {self.batch_size}"
        while found := self._run(lacking):
            values = [[name, facts_of(name, metadata_of(metadata))] for name, metadata in found]
            self._run(f"?[id, facts] <- $rows :update {self._name} {{id => facts}}", rows=values)

    def _remove(self, ids: list[str]) -> None:
        self._run(f"?[id] <- $rows :rm {self._name} {{id}}", rows=[[one] for one in ids])

    def _held(self, ids: list[str]) -> Iterable[str]:
        script = f"given[id] <- $rows ?[id] := given[id], *{self._name}{{id}}"
        return [row[0] for row in self._run(script, rows=[[one] for one in ids])]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        return [tuple(row) for row in self._run(f"?[id, text, metadata] := *{self._name}{{id, text, metadata}}")]

    def _size(self) -> int:
        return int(self._run(f"?[count(id)] := *{self._name}{{id}}")[0][0])

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        condition = "" if where is None else f", {where}"
        script = f"?[id, text, metadata, raw] := *{self._name}{{{_FIELDS}}}{condition}, raw = cos_dist(vector, vec($vector))"
        return [tuple(row) for row in self._run(f"{script} :order raw :limit {int(k)}", vector=vector)]
