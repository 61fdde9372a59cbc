"""`Zvec`: a collection of Alibaba's Zvec, in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from dspex_nb.retrieval.blocks import Block, key_of
from dspex_nb.retrieval.collection import DEFAULT_NAME
from dspex_nb.retrieval.facts import Dialect, Written, facts_of, quoted
from dspex_nb.retrieval.later import LaterFacts
from dspex_nb.retrieval.metadata import metadata_of

_FIELDS = ["id", "text", "metadata"]
_TOKENS = 32  # in one list
_MANY = 1000  # new rows that make a search slow until Zvec has put them in order


class Zvec(LaterFacts):
    """Passages in a Zvec collection.

    Facts for filters are a field that new rows lack until the first search with a filter.

    Args:
        path: The collection's folder; its parent must be there.
    """

    name = "zvec"
    metric = "cosine"
    modes: tuple[str, ...] = ("dense", "sparse", "hybrid")
    dialect: ClassVar[Dialect[Any]] = Written(
        lambda tokens: _each(tokens, "facts contain_any", "or"),
        ("and", "or", "not "),
        lambda tokens: _each(tokens, "facts not contain_any", "and"),
    )

    def _open(self, *, path: str | Path) -> None:
        import zvec

        self._zvec = zvec  # not imported at each search
        self._path = Path(path)
        self._unordered = 0
        if self._path.exists():
            self._collection = zvec.open(str(path))
            self._dimension = self._collection.schema.vectors[0].dimension

    def close(self) -> None:
        """Write what is not yet on disk, and close."""
        if self._dimension is not None:
            self._collection.close()

    def _create(self, dimension: int) -> None:
        import zvec

        texts = [zvec.FieldSchema(name, zvec.DataType.STRING) for name in _FIELDS]
        facts = zvec.FieldSchema("facts", zvec.DataType.ARRAY_STRING, nullable=True)
        vector = zvec.VectorSchema(
            "vector", zvec.DataType.VECTOR_FP32, dimension, index_param=zvec.FlatIndexParam(metric_type=zvec.MetricType.IP)
        )
        schema = zvec.CollectionSchema(DEFAULT_NAME, [*texts, facts], [vector])
        self._collection = zvec.create_and_open(str(self._path), schema)

    def _write_bare(self, rows: Block) -> None:
        import zvec

        columns = zip(rows.keys, rows.vectors, rows.ids, rows.texts, rows.metadata, strict=True)
        self._collection.upsert([
            zvec.Doc(key, vectors={"vector": vector}, fields={"id": name, "text": text, "metadata": metadata})
            for key, vector, name, text, metadata in columns
        ])  # fmt: skip
        self._unordered += len(rows)

    def _take_up_facts(self) -> None:
        """Give facts to the rows that have none; their other fields stay."""
        import zvec

        with self._collection.iter_docs(output_fields=["id", "metadata", "facts"], include_vector=False) as docs:
            new = [(one.id, one.fields) for one in docs if one.fields.get("facts") is None]
        for start in range(0, len(new), self.batch_size):
            self._collection.update([
                zvec.Doc(key, fields={"facts": facts_of(fields["id"], metadata_of(fields["metadata"]))})
                for key, fields in new[start : start + self.batch_size]
            ])  # fmt: skip
        self._unordered += len(new)

    def _remove(self, ids: list[str]) -> None:
        self._collection.delete([key_of(one) for one in ids])

    def _held(self, ids: list[str]) -> Iterable[str]:
        found = self._collection.fetch([key_of(one) for one in ids])
        return [one for one in ids if key_of(one) in found]

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        return [tuple(one.fields[name] for name in _FIELDS) for one in self._collection.iter_docs()]

    def _size(self) -> int:
        return int(self._collection.stats.doc_count)

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        if self._unordered >= _MANY:
            self._collection.optimize()
            self._unordered = 0
        given = {} if where is None else {"filter": where}
        found = self._collection.query(self._zvec.Query("vector", vector=vector), topk=k, output_fields=_FIELDS, **given)
        rows = [(one.fields, one.score) for one in found]
        return [(fields["id"], fields["text"], fields["metadata"], score) for fields, score in rows]


def _each(tokens: list[str], said: str, join: str) -> str:
    """Return a condition on tokens, said of as many at once as Zvec takes."""
    parts = [f"{said} ({quoted(tokens[start : start + _TOKENS])})" for start in range(0, len(tokens), _TOKENS)]
    return parts[0] if len(parts) == 1 else f"({f' {join} '.join(parts)})"
