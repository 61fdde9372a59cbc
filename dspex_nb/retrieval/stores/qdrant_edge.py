"""`QdrantEdge`: a shard of Qdrant's own engine in this process, in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.collection import Collection
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.fields import by_values, facts_beside, wanted
from dspex_nb.retrieval.filters import Compare, Condition
from dspex_nb.retrieval.hits import Found, Told
from dspex_nb.retrieval.metadata import is_exact

_FIELDS = ["id", "text", "metadata"]
_PAGE = 1000
_KINDS = (str, int)


class EdgeDialect(Dialect[Any]):
    """Qdrant's filters, in the edge package's classes.

    Texts and whole numbers are compared in the metadata itself; a boolean that is asked for the package takes for a number, and a
    fraction is never equal to it.
    """

    def own(self, asked: Compare, *, opposite: bool) -> Any:
        """Return what the metadata and the facts say of values."""
        import qdrant_edge as edge

        values, tokens = wanted(asked, _KINDS)
        alike: list[Any] = values
        parts: list[Any] = [edge.FieldCondition(f"metadata.{asked.key}", match=edge.MatchAny(one)) for one in alike]
        parts.append(self.holds(tokens))
        return edge.Filter(must_not=parts) if opposite else edge.Filter(should=parts)

    def holds(self, tokens: list[str]) -> Any:
        """Return that the payload's list has one of them."""
        import qdrant_edge as edge

        return edge.FieldCondition("facts", match=edge.MatchAny(tokens))

    def every(self, parts: list[Any]) -> Any:
        """Return that all must hold."""
        import qdrant_edge as edge

        return edge.Filter(must=parts)

    def some(self, parts: list[Any]) -> Any:
        """Return that one should hold."""
        import qdrant_edge as edge

        return edge.Filter(should=parts)

    def opposite(self, part: Any) -> Any:
        """Return that it must not hold."""
        import qdrant_edge as edge

        return edge.Filter(must_not=[part])


class QdrantEdge(Collection):
    """Passages in a folder, by Qdrant's engine without a server.

    Args:
        path: The folder.
    """

    name = "qdrant-edge"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = EdgeDialect()

    def _open(self, *, path: str | Path) -> None:
        import qdrant_edge

        self._edge = qdrant_edge  # not imported at each search
        self._path = Path(path)
        note = self._path / "dimension"
        if note.exists():
            self._dimension = int(note.read_text(encoding="utf-8"))
            self._shard = qdrant_edge.EdgeShard.load(str(self._path / "shard"))

    def close(self) -> None:
        """Write what is not yet on disk, and close."""
        if self._dimension is not None:
            self._shard.close()

    def persist(self) -> None:
        """Write what is not yet on disk."""
        if self._dimension is not None:
            self._shard.flush()

    def _create(self, dimension: int) -> None:
        import qdrant_edge as edge

        (self._path / "shard").mkdir(parents=True, exist_ok=True)
        vectors = edge.EdgeVectorParams(dimension, edge.Distance.Dot)
        self._shard = edge.EdgeShard.create(str(self._path / "shard"), edge.EdgeConfig(vectors=vectors))
        (self._path / "dimension").write_text(str(dimension), encoding="utf-8")

    def _write(self, rows: Block) -> None:
        import qdrant_edge as edge

        columns = zip(rows.keys, rows.vectors, map(_payload, rows.ids, rows.texts, rows.told, rows.metadata), strict=True)
        points = [edge.Point(key, vector, payload) for key, vector, payload in columns]
        self._shard.update(edge.UpdateOperation.upsert_points(points))

    def _remove(self, ids: list[str]) -> None:
        import qdrant_edge as edge

        self._shard.update(edge.UpdateOperation.delete_points([key_of(one) for one in ids]))

    def _held(self, ids: list[str]) -> Iterable[str]:
        found = self._shard.retrieve([key_of(one) for one in ids], with_payload=True, with_vector=False)
        return [_fields(one)[0] for one in found]

    def _rows(self) -> Iterable[Told]:
        import qdrant_edge as edge

        offset = None
        while True:
            points, offset = self._shard.scroll(edge.ScrollRequest(offset=offset, limit=_PAGE, with_payload=True))
            yield from map(_fields, points)
            if offset is None:
                return

    def _size(self) -> int:
        import qdrant_edge as edge

        return int(self._shard.count(edge.CountRequest(exact=True)))

    def _where(self, condition: Condition) -> Any:
        import qdrant_edge as edge

        if by_values(condition):
            return super()._where(condition)
        return edge.Filter(must=[edge.HasIdCondition(set(map(key_of, self._satisfying(condition))))])

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[Found]:
        edge = self._edge
        chosen = where if where is None or isinstance(where, edge.Filter) else edge.Filter(must=[where])
        nearest = edge.Query.Nearest(vector)
        found = self._shard.query(edge.QueryRequest(k, query=nearest, filter=chosen, with_payload=_FIELDS))
        return [(*_fields(one), one.score) for one in found]


def _payload(name: str, text: str, told: dict[str, Any], metadata: str) -> dict[str, Any]:
    """Return what a point holds: metadata as it is where it comes back as it is, else as JSON, and facts beside either."""
    if not is_exact(metadata):
        return {"id": name, "text": text, "metadata": metadata, "facts": facts_beside(told, ())}
    facts = facts_beside(told, _KINDS)
    found = {"id": name, "text": text, "metadata": told}
    return {**found, "facts": facts} if facts else found


def _fields(point: Any) -> Told:
    payload = point.payload  # each look makes it anew
    return payload["id"], payload["text"], payload["metadata"]
