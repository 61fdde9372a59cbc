"""Each embedded store as a user of its own client would use it: passages in, and `find(query)` gives id, text, metadata, number.

Both sides of the comparison hold the same rows, in an index of their own with the same settings, and give back the same things.
Both read and write JSON by orjson. Ids are keys on both, so that a passage can be replaced; where a client's ordinary way of adding
does not replace, and another does, the other is taken, as `add` promises it. Only SQL's plain INSERT stays: it is the quicker one.
"""

from __future__ import annotations

import uuid

import numpy as np
import orjson

_COLUMNS = ("id", "text", "metadata")


def _json(metadata):
    return orjson.dumps(metadata).decode()


def _key(name):
    """Qdrant's keys are numbers or UUIDs; one that can be found again from an id that is neither is made of it, as ours are."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def of_rows(slots, numbers, rows):
    """What a library of neighbours leaves to its user: the passages of the slots."""
    ids, texts, metadatas, _ = rows
    found = zip(slots.tolist(), numbers.tolist(), strict=True)
    return [(ids[slot], texts[slot], metadatas[slot], number) for slot, number in found]


def memory(folder, rows, k):
    matrix = rows[3].copy()

    def find(query):
        scores = matrix @ query
        best = np.argpartition(scores, -k)[-k:]
        best = best[np.argsort(-scores[best])]
        return of_rows(best, scores[best], rows)

    return find


def faiss(folder, rows, k):
    import faiss

    index = faiss.IndexFlatIP(rows[3].shape[1])
    index.add(rows[3])

    def find(query):
        numbers, slots = index.search(query[None], k)
        return of_rows(slots[0], numbers[0], rows)

    return find


def hnswlib(folder, rows, k):
    import hnswlib

    index = hnswlib.Index(space="ip", dim=rows[3].shape[1])
    index.init_index(max_elements=len(rows[0]), ef_construction=200, M=16)
    index.add_items(rows[3])
    index.set_ef(64)

    def find(query):
        slots, numbers = index.knn_query(query, k=k)
        return of_rows(slots[0], numbers[0], rows)

    return find


def usearch(folder, rows, k):
    from usearch.index import Index

    index = Index(ndim=rows[3].shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(rows[0])), rows[3])

    def find(query):
        found = index.search(query, k)
        return of_rows(found.keys, found.distances, rows)

    return find


def voyager(folder, rows, k):
    from voyager import Index, Space

    index = Index(Space.InnerProduct, num_dimensions=rows[3].shape[1])
    index.add_items(rows[3])

    def find(query):
        slots, numbers = index.query(query, k=k, query_ef=64)
        return of_rows(slots, numbers, rows)

    return find


def scann(folder, rows, k):
    import scann

    index = scann.scann_ops_pybind.builder(rows[3], 10, "dot_product").score_brute_force().build()

    def find(query):
        slots, numbers = index.search(query, final_num_neighbors=k)
        return of_rows(slots, numbers, rows)

    return find


def annoy(folder, rows, k):
    from annoy import AnnoyIndex

    index = AnnoyIndex(rows[3].shape[1], "dot")
    index.set_seed(0)
    for slot, vector in enumerate(rows[3]):
        index.add_item(slot, vector)
    index.build(50)

    def find(query):
        slots, numbers = index.get_nns_by_vector(query, k, search_k=20 * 50 * k, include_distances=True)
        return of_rows(np.array(slots), np.array(numbers), rows)

    return find


def ngt(folder, rows, k):
    import ngtpy

    place = str(folder / "ngt").encode()
    ngtpy.create(place, rows[3].shape[1], distance_type="Cosine", object_type="Float")
    index = ngtpy.Index(place)
    index.batch_insert(rows[3])
    ids, texts, metadatas, _ = rows
    return lambda query: [(ids[at], texts[at], metadatas[at], number) for at, number in index.search(query, k, epsilon=0.2)]


def nmslib(folder, rows, k):
    import nmslib

    index = nmslib.init(method="hnsw", space="cosinesimil")
    index.addDataPointBatch(rows[3])
    index.createIndex({})
    index.setQueryTimeParams({"efSearch": 100})
    return lambda query: of_rows(*index.knnQuery(query, k=k), rows)


def sklearn(folder, rows, k):
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(metric="cosine").fit(rows[3])

    def find(query):
        numbers, slots = index.kneighbors(query[None], k)
        return of_rows(slots[0], numbers[0], rows)

    return find


def pynndescent(folder, rows, k):
    from pynndescent import NNDescent

    index = NNDescent(rows[3], metric="cosine", n_neighbors=30, random_state=0)

    def find(query):
        slots, numbers = index.query(query[None], k=k)
        return of_rows(slots[0], numbers[0], rows)

    find(rows[3][0])
    return find


def _sqlite(run, run_many, finding, rows, k):
    """A table, one transaction, and a query by the given function of vectors."""
    ids, texts, metadatas, vectors = rows
    run("PRAGMA journal_mode = WAL")
    run("CREATE TABLE passages (id TEXT PRIMARY KEY, text TEXT, metadata TEXT, vector BLOB)")
    values = zip(ids, texts, map(_json, metadatas), (one.tobytes() for one in vectors), strict=True)
    run("BEGIN")
    run_many("INSERT INTO passages VALUES (?, ?, ?, ?)", values)
    run("COMMIT")
    said = f"SELECT id, text, metadata, {finding}(vector, ?) AS raw FROM passages ORDER BY raw LIMIT ?"  # noqa: S608 - a name of ours
    return lambda query: [
        (name, text, orjson.loads(metadata), raw) for name, text, metadata, raw in run(said, (query.tobytes(), k)).fetchall()
    ]


def sqlite_vec(folder, rows, k):
    import apsw
    import sqlite_vec

    base = apsw.Connection(str(folder / "native.db"))
    base.enable_load_extension(True)
    base.load_extension(sqlite_vec.loadable_path())
    return _sqlite(base.execute, base.executemany, "vec_distance_cosine", rows, k)


def libsql(folder, rows, k):
    import libsql

    base = libsql.connect(str(folder / "native.db"), isolation_level=None)
    return _sqlite(base.execute, lambda said, values: base.executemany(said, list(values)), "vector_distance_cos", rows, k)


def turso(folder, rows, k):
    import turso

    base = turso.connect(str(folder / "native.db"), isolation_level=None)
    return _sqlite(base.execute, base.executemany, "vector_distance_cos", rows, k)


def sqlite(folder, rows, k):
    """Python's module has no vectors: NumPy compares, and the table gives the passages."""
    import sqlite3

    base = sqlite3.connect(folder / "native.db", isolation_level=None)
    _sqlite(base.execute, base.executemany, "no", rows, k)

    def find(query):
        numbers, blobs = zip(*base.execute("SELECT rowid, vector FROM passages").fetchall(), strict=True)
        scores = np.frombuffer(b"".join(blobs), np.float32).reshape(-1, len(query)) @ query
        best = np.argpartition(scores, -k)[-k:]
        best = best[np.argsort(-scores[best])]
        said = "SELECT id, text, metadata FROM passages WHERE rowid = ?"
        found = [(base.execute(said, (numbers[at],)).fetchone(), float(scores[at])) for at in best]
        return [(name, text, orjson.loads(metadata), score) for (name, text, metadata), score in found]

    return find


def duckdb(folder, rows, k):
    import duckdb
    import pyarrow as pa

    ids, texts, metadatas, vectors = rows
    length = vectors.shape[1]
    base = duckdb.connect(str(folder / "native.db"))
    base.execute(f"CREATE TABLE passages (id VARCHAR PRIMARY KEY, text VARCHAR, metadata VARCHAR, vector FLOAT[{length}])")
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), length)
    given = pa.table({"id": ids, "text": texts, "metadata": list(map(_json, metadatas)), "vector": listed})
    base.register("given", given)
    base.execute("INSERT INTO passages SELECT * FROM given")
    said = f"""SELECT id, text, metadata, array_inner_product(vector, ?::FLOAT[{length}]) AS raw
        FROM passages ORDER BY raw DESC LIMIT ?"""  # noqa: S608 - a number of ours
    return lambda query: [
        (name, text, orjson.loads(metadata), raw)
        for name, text, metadata, raw in base.execute(said, [query.tolist(), k]).fetchall()
    ]


def lancedb(folder, rows, k):
    import lancedb
    import pyarrow as pa

    ids, texts, metadatas, vectors = rows
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    given = pa.table({"id": ids, "text": texts, "metadata": list(map(_json, metadatas)), "vector": listed})
    table = lancedb.connect(str(folder / "native")).create_table("passages", given)

    def find(query):
        asked = table.search(query).distance_type("dot").select([*_COLUMNS, "_distance"]).limit(k)
        return [(row["id"], row["text"], orjson.loads(row["metadata"]), row["_distance"]) for row in asked.to_list()]

    return find


def chroma(folder, rows, k):
    import chromadb
    from chromadb.config import Settings

    ids, texts, metadatas, vectors = rows
    client = chromadb.PersistentClient(str(folder / "native"), settings=Settings(anonymized_telemetry=False))
    held = client.create_collection("passages", configuration={"hnsw": {"space": "ip"}}, embedding_function=None)
    for start in range(0, len(ids), 5000):
        part = slice(start, start + 5000)
        held.upsert(ids=ids[part], documents=texts[part], metadatas=metadatas[part], embeddings=vectors[part])

    def find(query):
        found = held.query(query_embeddings=[query], n_results=k, include=["documents", "metadatas", "distances"])
        return list(zip(*(found[name][0] for name in ("ids", "documents", "metadatas", "distances")), strict=True))

    return find


def qdrant(folder, rows, k):
    from qdrant_client import QdrantClient, models

    ids, texts, metadatas, vectors = rows
    client = QdrantClient(path=str(folder / "native"))
    client.create_collection("passages", models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT))
    payloads = [{"id": name, "text": text, "metadata": told} for name, text, told in zip(ids, texts, metadatas, strict=True)]
    for start in range(0, len(ids), 1000):
        part = slice(start, start + 1000)
        keys = [_key(name) for name in ids[part]]
        client.upsert("passages", models.Batch(ids=keys, vectors=vectors[part].tolist(), payloads=payloads[part]))

    def find(query):
        points = client.query_points("passages", query=query.tolist(), limit=k, with_payload=True).points
        return [(*(one.payload[name] for name in _COLUMNS), one.score) for one in points]

    return find


def qdrant_edge(folder, rows, k):
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

    def find(query):
        asked = edge.QueryRequest(k, query=edge.Query.Nearest(query.tolist()), with_payload=True)
        payloads = [(one.payload, one.score) for one in shard.query(asked)]
        return [(*(payload[name] for name in _COLUMNS), score) for payload, score in payloads]

    return find


def milvus(folder, rows, k):
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

    def find(query):
        found = client.search("passages", [query], limit=k, output_fields=list(_COLUMNS))[0]
        said = [(one["entity"], one["distance"]) for one in found]
        return [(one["id"], one["text"], orjson.loads(one["metadata"]), number) for one, number in said]

    return find


def zvec(folder, rows, k):
    import zvec

    ids, texts, metadatas, vectors = rows
    word, number = zvec.DataType.STRING, zvec.DataType.INT64
    kinds = {"id": word, "text": word, "title": word, "source": word, "page": number}
    asked = {name: {"index_param": zvec.InvertIndexParam()} for name in ("title", "source", "page")}  # for filters, as ours
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

    def find(query):
        found = held.query(zvec.Query("vector", vector=query.tolist()), topk=k, output_fields=list(kinds))
        said = [(one.fields, one.score) for one in found]
        return [(one["id"], one["text"], {name: one[name] for name in metadatas[0]}, number) for one, number in said]

    return find


def cozo(folder, rows, k):
    from pycozo.client import Client

    ids, texts, metadatas, vectors = rows
    client = Client("sqlite", str(folder / "native.db"), dataframe=False)
    client.run(f":create passages {{id: String => text: String, metadata: Json, vector: <F32; {vectors.shape[1]}>}}")
    said = "?[id, text, metadata, vector] <- $rows :put passages {id => text, metadata, vector}"
    given = list(zip(ids, texts, metadatas, vectors.tolist(), strict=True))
    for start in range(0, len(given), 1000):
        client.run(said, {"rows": [list(one) for one in given[start : start + 1000]]})
    script = """?[id, text, metadata, raw] := *passages{id, text, metadata, vector}, raw = cos_dist(vector, vec($vector))
        :order raw :limit $k"""
    return lambda query: [tuple(row) for row in client.run(script, {"vector": query.tolist(), "k": k})["rows"]]


def ladybug(folder, rows, k):
    import ladybug

    ids, texts, metadatas, vectors = rows
    length = vectors.shape[1]
    base = ladybug.Connection(ladybug.Database(str(folder / "native.db")))
    base.execute(f"CREATE NODE TABLE P (id STRING PRIMARY KEY, text STRING, metadata STRING, vector FLOAT[{length}])")
    given = [
        {"id": name, "text": text, "metadata": _json(told), "vector": vector}
        for name, text, told, vector in zip(ids, texts, metadatas, vectors.tolist(), strict=True)
    ]
    said = f"""UNWIND $rows AS row MERGE (p:P {{id: row.id}}) SET p.text = row.text, p.metadata = row.metadata,
        p.vector = CAST(row.vector, 'FLOAT[{length}]')"""
    for start in range(0, len(given), 1000):
        base.execute(said, {"rows": given[start : start + 1000]})
    finding = f"""MATCH (p:P) RETURN p.id, p.text, p.metadata,
        array_inner_product(p.vector, CAST($vector, 'FLOAT[{length}]')) AS raw ORDER BY raw DESC LIMIT $k"""
    return lambda query: [
        (name, text, orjson.loads(told), raw)
        for name, text, told, raw in base.execute(finding, {"vector": query.tolist(), "k": k}).get_all()
    ]


def surrealdb(folder, rows, k):
    from surrealdb import RecordID, Surreal

    ids, texts, metadatas, vectors = rows
    client = Surreal(f"surrealkv://{folder / 'native'}")
    client.use("bench", "bench")
    client.query("DEFINE TABLE passages SCHEMALESS")
    for start in range(0, len(ids), 500):
        part = slice(start, start + 500)
        columns = zip(ids[part], texts[part], metadatas[part], vectors[part].tolist(), strict=True)
        given = [
            {"key": RecordID("passages", name), "row": {"pid": name, "text": text, "metadata": told, "vector": vector}}
            for name, text, told, vector in columns
        ]
        client.query("FOR $one IN $rows { UPSERT $one.key CONTENT $one.row; };", {"rows": given})
    said = "SELECT pid, text, metadata, vector::dot(vector, $vector) AS raw FROM passages ORDER BY raw DESC LIMIT $k"

    def find(query):
        found = client.query(said, {"vector": query.tolist(), "k": k})
        found = found.execute()[-1] if hasattr(found, "execute") else found
        return [(row["pid"], row["text"], row["metadata"], row["raw"]) for row in found]

    return find


LIBRARIES = {
    "memory": memory, "faiss": faiss, "hnswlib": hnswlib, "usearch": usearch, "voyager": voyager, "scann": scann, "annoy": annoy,
    "ngt": ngt, "nmslib": nmslib, "sklearn": sklearn, "pynndescent": pynndescent,
}  # fmt: skip
DATABASES = {
    "sqlite": sqlite, "sqlite-vec": sqlite_vec, "libsql": libsql, "turso": turso, "duckdb": duckdb, "lancedb": lancedb,
    "chroma": chroma, "qdrant": qdrant, "qdrant-edge": qdrant_edge, "milvus": milvus, "zvec": zvec, "cozo": cozo,
    "ladybug": ladybug, "surrealdb": surrealdb,
}  # fmt: skip
