"""Each embedded vector database as a user of its own client would use it: `fill` makes an index of passages, and `find` searches it.

A search gives id, text, metadata and number. `find_ours` gives the same of the collection that our retriever filled, by the lines
that a user would write who knows how it is laid out: where that is as in the user's own, it is `find` again.

JSON is read and written by orjson, as ours is. Ids are keys, so that a passage can be replaced; where a client's ordinary way of
adding does not replace, and another does, the other is taken, as `add` promises it.
"""

from __future__ import annotations

import uuid

import orjson

_COLUMNS = ("id", "text", "metadata")
_OURS = "dspex_passages"
_BEHIND = "\x1e"  # behind it stands the second of two texts in one field


def _json(metadata):
    return orjson.dumps(metadata).decode()


def _apart(joined):
    first, _, second = joined.rpartition(_BEHIND)
    return first, second


class Chroma:
    """In ours text and metadata are one field of the record, which has no document."""

    def fill(self, folder, rows):
        import chromadb
        from chromadb.config import Settings

        ids, texts, metadatas, vectors = rows
        client = chromadb.PersistentClient(str(folder / "native"), settings=Settings(anonymized_telemetry=False))
        held = client.create_collection("passages", configuration={"hnsw": {"space": "ip"}}, embedding_function=None)
        for start in range(0, len(ids), 5000):
            part = slice(start, start + 5000)
            held.upsert(ids=ids[part], documents=texts[part], metadatas=metadatas[part], embeddings=vectors[part])
        return held

    def find(self, held, rows, k):
        def found(query):
            answer = held.query(query_embeddings=[query], n_results=k, include=["documents", "metadatas", "distances"])
            return list(zip(*(answer[name][0] for name in ("ids", "documents", "metadatas", "distances")), strict=True))

        return found

    def find_ours(self, retriever, rows, k):
        held = retriever._collection

        def found(query):
            answer = held.query(query_embeddings=[query], n_results=k, include=["metadatas", "distances"])
            told = [_apart(fields["_passage"]) for fields in answer["metadatas"][0]]
            columns = zip(answer["ids"][0], told, answer["distances"][0], strict=True)
            return [(name, text, orjson.loads(metadata), number) for name, (text, metadata), number in columns]

        return found


class Qdrant:
    """Keys are numbers or UUIDs; one that is found again from an id that is neither is made of it. In ours metadata follows text."""

    def fill(self, folder, rows):
        from qdrant_client import QdrantClient, models

        ids, texts, metadatas, vectors = rows
        client = QdrantClient(path=str(folder / "native"))
        client.create_collection("passages", models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT))
        payloads = [{"id": name, "text": text, "metadata": told} for name, text, told in zip(ids, texts, metadatas, strict=True)]
        for start in range(0, len(ids), 1000):
            part = slice(start, start + 1000)
            keys = [_key(name) for name in ids[part]]
            client.upsert("passages", models.Batch(ids=keys, vectors=vectors[part].tolist(), payloads=payloads[part]))
        return client

    def find(self, client, rows, k):
        def found(query):
            points = client.query_points("passages", query=query.tolist(), limit=k, with_payload=True).points
            return [(*(one.payload[name] for name in _COLUMNS), one.score) for one in points]

        return found

    def find_ours(self, retriever, rows, k):
        client, fields = retriever._client, ["id", "passage"]

        def found(query):
            points = client.query_points(_OURS, query=query.tolist(), limit=k, with_payload=fields).points
            told = [(one.payload["id"], *_apart(one.payload["passage"]), one.score) for one in points]
            return [(name, text, orjson.loads(metadata), score) for name, text, metadata, score in told]

        return found


class QdrantEdge:
    def fill(self, folder, rows):
        import qdrant_edge as edge

        ids, texts, metadatas, vectors = rows
        place = folder / "native"
        place.mkdir()
        config = edge.EdgeConfig(vectors=edge.EdgeVectorParams(vectors.shape[1], edge.Distance.Dot))
        shard = edge.EdgeShard.create(str(place), config)
        for start in range(0, len(ids), 1000):
            points = [
                edge.Point(_key(ids[at]), vectors[at].tolist(), {"id": ids[at], "text": texts[at], "metadata": metadatas[at]})
                for at in range(start, min(start + 1000, len(ids)))
            ]
            shard.update(edge.UpdateOperation.upsert_points(points))
        return shard

    def find(self, shard, rows, k):
        import qdrant_edge as edge

        def found(query):
            asked = edge.QueryRequest(k, query=edge.Query.Nearest(query.tolist()), with_payload=True)
            payloads = [(one.payload, one.score) for one in shard.query(asked)]
            return [(*(payload[name] for name in _COLUMNS), score) for payload, score in payloads]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(retriever._shard, rows, k)


def _key(name):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


class Milvus:
    """In ours id, metadata, text and facts are an array; before what is no fact stands a blank, which JSON allows."""

    def fill(self, folder, rows):
        from pymilvus import DataType, MilvusClient

        ids, texts, metadatas, vectors = rows
        client = MilvusClient(uri=str(folder / "native.db"))
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=40)
        for name in ("text", "metadata"):
            schema.add_field(name, DataType.VARCHAR, max_length=65_535)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        client.create_collection("passages", schema=schema, index_params=index, consistency_level="Strong")
        given = [
            {"id": name, "text": text, "metadata": _json(told), "vector": vector}
            for name, text, told, vector in zip(ids, texts, metadatas, vectors, strict=True)
        ]
        for start in range(0, len(given), 1000):
            client.upsert("passages", given[start : start + 1000])
        return client

    def find(self, client, rows, k):
        def found(query):
            nearest = client.search("passages", [query], limit=k, output_fields=list(_COLUMNS))[0]
            told = [(one["entity"], one["distance"]) for one in nearest]
            return [(one["id"], one["text"], orjson.loads(one["metadata"]), number) for one, number in told]

        return found

    def find_ours(self, retriever, rows, k):
        client = retriever._client

        def found(query):
            nearest = client.search(_OURS, [query], limit=k, output_fields=["passage"])[0]
            told = [(one["entity"]["passage"], one["distance"]) for one in nearest]
            return [(one[0][1:], one[2][1:], orjson.loads(one[1]), number) for one, number in told]

        return found


class Zvec:
    """The user's metadata are fields, which filters ask for; ours is one text."""

    def fill(self, folder, rows):
        import zvec

        ids, texts, metadatas, vectors = rows
        word, number = zvec.DataType.STRING, zvec.DataType.INT64
        kinds = {"id": word, "text": word, "title": word, "source": word, "page": number}
        asked = {name: {"index_param": zvec.InvertIndexParam()} for name in ("title", "source", "page")}
        fields = [zvec.FieldSchema(name, kind, **asked.get(name, {})) for name, kind in kinds.items()]
        flat = zvec.FlatIndexParam(metric_type=zvec.MetricType.IP)
        vector = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, vectors.shape[1], index_param=flat)
        held = zvec.create_and_open(str(folder / "native"), zvec.CollectionSchema("passages", fields, [vector]))
        for start in range(0, len(ids), 1000):
            held.upsert([
                zvec.Doc(
                    str(at),
                    vectors={"vector": vectors[at].tolist()},
                    fields={"id": ids[at], "text": texts[at], **metadatas[at]},
                )
                for at in range(start, min(start + 1000, len(ids)))
            ])  # fmt: skip
        held.optimize()
        return held

    def find(self, held, rows, k):
        import zvec

        names = list(rows[2][0])

        def found(query):
            nearest = held.query(zvec.Query("vector", vector=query.tolist()), topk=k, output_fields=["id", "text", *names])
            told = [(one.fields, one.score) for one in nearest]
            return [(one["id"], one["text"], {name: one[name] for name in names}, number) for one, number in told]

        return found

    def find_ours(self, retriever, rows, k):
        import zvec

        held = retriever._collection

        def found(query):
            nearest = held.query(zvec.Query("vector", vector=query.tolist()), topk=k, output_fields=list(_COLUMNS))
            told = [(one.fields, one.score) for one in nearest]
            return [(one["id"], one["text"], orjson.loads(one["metadata"]), number) for one, number in told]

        return found


COLLECTIONS = {"chroma": Chroma(), "qdrant": Qdrant(), "qdrant-edge": QdrantEdge(), "milvus": Milvus(), "zvec": Zvec()}
