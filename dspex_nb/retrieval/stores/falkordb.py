"""`FalkorDb`: passages as nodes of a graph of FalkorDB, a module of Redis servers."""

from __future__ import annotations

from typing import Any, ClassVar

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.awaited import Awaited, AwaitedCollection
from dspex_nb.retrieval.collection import DEFAULT_NAME, safe_name
from dspex_nb.retrieval.cypher import CypherCollection


class FalkorDb(AwaitedCollection, CypherCollection):
    """Passages in a FalkorDB graph; vectors are compared one by one.

    Args:
        host: The server's name.
        port: Its port.
        password: The server's password.
        graph: The graph's name.
    """

    name = "falkordb"
    metric = "cosine distance"
    modes: tuple[str, ...] = ("dense",)
    kept = "server"
    concurrent = True
    making: ClassVar[tuple[str, ...]] = ("CREATE INDEX FOR (p:{label}) ON (p.id)", "CREATE (:About {dimension: {dimension}})")
    # Made anew: FalkorDB keeps a node's old vector where a new one is set in its place.
    putting = """UNWIND $rows AS row OPTIONAL MATCH (old:{label} {id: row.id}) DELETE old
        CREATE (:{label} {id: row.id, text: row.text, metadata: row.metadata, facts: row.facts, vector: vecf32(row.vector)})"""
    finding = """MATCH (p:{label}) WHERE {where} RETURN p.id, p.text, p.metadata,
        vec.cosineDistance(p.vector, vecf32($vector)) AS raw ORDER BY raw LIMIT $k"""
    _label = "Passage"

    def _open(self, *, host: str = "localhost", port: int = 6379, password: str | None = None, graph: str = DEFAULT_NAME) -> None:
        from falkordb import FalkorDB

        self._name, self._reached = safe_name(graph, "graph"), {"host": host, "port": port, "password": password}
        self._graph = FalkorDB(**self._reached).select_graph(self._name)
        found = self._run("MATCH (a:About) RETURN a.dimension")
        if len(found) > 1:
            raise RetrieverError(f"the graph {graph!r} was made by two at once", hint="delete it, or choose another name: graph=")
        self._dimension = int(found[0][0]) if found else None

    def drop(self) -> None:
        """Remove the graph."""
        self._graph.delete()

    def _run(self, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
        return self._graph.query(statement, values or {}).result_set  # type: ignore[no-any-return]

    async def _aopen(self) -> Awaited:
        from dspex_nb.retrieval.stores.falkordb_awaited import opened

        return await opened(self._name, self._reached, self._said, self.putting, self.finding)
