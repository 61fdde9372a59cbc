"""`Ladybug`: passages as nodes of Ladybug, an embedded graph database, the fork in which Kuzu goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.base import kept_at
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.cypher import CypherCollection


class Ladybug(CypherCollection):
    """Passages in a Ladybug database; vectors are compared one by one.

    Args:
        path: The database's file; in memory if None.
        label: The label of the nodes.
    """

    name = "ladybug"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    making: ClassVar[tuple[str, ...]] = (
        """CREATE NODE TABLE {label} (id STRING PRIMARY KEY, text STRING, metadata STRING, facts STRING[],
        vector FLOAT[{dimension}])""",
        "CREATE NODE TABLE {label}_about (dimension INT64 PRIMARY KEY)",
        "CREATE (:{label}_about {dimension: {dimension}})",
    )
    putting = """UNWIND $rows AS row MERGE (p:{label} {id: row.id}) SET p.text = row.text, p.metadata = row.metadata,
        p.facts = row.facts, p.vector = CAST(row.vector, 'FLOAT[{dimension}]')"""
    finding = """MATCH (p:{label}) WHERE {where} RETURN p.id, p.text, p.metadata,
        array_inner_product(p.vector, CAST($vector, 'FLOAT[{dimension}]')) AS raw ORDER BY raw DESC LIMIT $k"""

    def _open(self, *, path: str | Path | None = None, label: str = DEFAULT_NAME) -> None:
        import ladybug

        self.kept = kept_at(path)
        self._label = safe_name(label, "label")
        self._database = ladybug.Database(str(path) if path is not None else ":memory:")
        self._connected = ladybug.Connection(self._database)
        if any(row[1] == f"{self._label}_about" for row in self._run("CALL show_tables() RETURN *")):
            self._dimension = int(self._run(f"MATCH (a:{self._label}_about) RETURN a.dimension")[0][0])

    def close(self) -> None:
        """Close the database."""
        self._connected.close()
        self._database.close()

    def _run(self, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
        found = self._connected.execute(statement, values or {})
        rows = []
        while found.has_next():
            rows.append(found.get_next())
        return rows

    def _create(self, dimension: int) -> None:
        self._dimension = dimension  # the statements name it
        super()._create(dimension)
