"""Each embedded database of tables as a user of its own client would use it: `fill` makes an index of passages, and `find` searches it.

A search gives id, text, metadata and number. `find_ours` gives the same of the table that our retriever filled, by the lines
that a user would write who knows how it is laid out: where that is as in the user's own, it is `find` again.

JSON is read and written by orjson, as ours is. Ids are keys, so that a passage can be replaced; where a client's ordinary way of
adding does not replace, and another does, the other is taken, as `add` promises it. Only SQL's plain INSERT stays: it is quicker.
"""

from __future__ import annotations

import numpy as np
import orjson

_COLUMNS = ("id", "text", "metadata")
_OURS = "dspex_passages"


def _json(metadata):
    return orjson.dumps(metadata).decode()


class SqliteVec:
    """A table, one transaction, and a query by the client's function of vectors; in ours vectors have a table of their own."""

    distance = "vec_distance_cosine"
    nearest = "SELECT id, text, metadata, {distance}(vector, ?) AS raw FROM passages ORDER BY raw LIMIT ?"
    nearest_in_ours = """SELECT id, text, metadata, raw FROM (
        SELECT number, {distance}(vector, ?) AS raw FROM dspex_passages_vectors ORDER BY raw LIMIT ?
        ) JOIN dspex_passages USING (number) ORDER BY raw"""

    def connect(self, path):
        import apsw
        import sqlite_vec

        base = apsw.Connection(path)
        base.enable_load_extension(True)
        base.load_extension(sqlite_vec.loadable_path())
        return base

    def fill(self, folder, rows):
        ids, texts, metadatas, vectors = rows
        base = self.connect(str(folder / "native.db"))
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("CREATE TABLE passages (id TEXT PRIMARY KEY, text TEXT, metadata TEXT, vector BLOB)")
        values = zip(ids, texts, map(_json, metadatas), (one.tobytes() for one in vectors), strict=True)
        base.execute("BEGIN")
        base.executemany("INSERT INTO passages VALUES (?, ?, ?, ?)", list(values))
        base.execute("COMMIT")
        return base

    def find(self, base, rows, k, said=None):
        said = (said or self.nearest).format(distance=self.distance)

        def found(query):
            nearest = base.execute(said, (query.tobytes(), k)).fetchall()
            return [(name, text, orjson.loads(metadata), raw) for name, text, metadata, raw in nearest]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(retriever._connected, rows, k, self.nearest_in_ours)


class LibSql(SqliteVec):
    distance = "vector_distance_cos"

    def connect(self, path):
        import libsql

        return libsql.connect(path, isolation_level=None)


class Turso(SqliteVec):
    distance = "vector_distance_cos"
    nearest_in_ours = """SELECT id, text, metadata, raw FROM (
        SELECT number, {distance}(vector, ?) AS raw FROM dspex_passages_vectors ORDER BY raw LIMIT ?
        ) AS nearest JOIN dspex_passages ON dspex_passages.number = nearest.number ORDER BY raw"""

    def connect(self, path):
        import turso

        return turso.connect(path, isolation_level=None)


class Sqlite(SqliteVec):
    """Python's module has no vectors: NumPy compares, and the table gives the passages."""

    def connect(self, path):
        import sqlite3

        return sqlite3.connect(path, isolation_level=None)

    def find(self, base, rows, k, passages="passages", vectors="passages", number="rowid"):
        every = f"SELECT {number}, vector FROM {vectors}"  # noqa: S608 - names of ours
        one = f"SELECT id, text, metadata FROM {passages} WHERE {number} = ?"  # noqa: S608

        def found(query):
            numbers, blobs = zip(*base.execute(every).fetchall(), strict=True)
            scores = np.frombuffer(b"".join(blobs), np.float32).reshape(-1, len(query)) @ query
            best = np.argpartition(scores, -k)[-k:]
            best = best[np.argsort(-scores[best])]
            nearest = [(base.execute(one, (numbers[at],)).fetchone(), float(scores[at])) for at in best]
            return [(name, text, orjson.loads(metadata), score) for (name, text, metadata), score in nearest]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(retriever._connected, rows, k, _OURS, f"{_OURS}_vectors", "number")


class DuckDb:
    def fill(self, folder, rows):
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
        base.unregister("given")
        return base

    def find(self, base, rows, k, table="passages"):
        said = f"""SELECT id, text, metadata, array_inner_product(vector, ?::FLOAT[{rows[3].shape[1]}]) AS raw
            FROM {table} ORDER BY raw DESC LIMIT ?"""  # noqa: S608 - a number and a name of ours

        def found(query):
            nearest = base.execute(said, [query, k]).fetchall()
            return [(name, text, orjson.loads(metadata), raw) for name, text, metadata, raw in nearest]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(retriever._connected, rows, k, _OURS)


class LanceDb:
    def fill(self, folder, rows):
        import lancedb
        import pyarrow as pa

        ids, texts, metadatas, vectors = rows
        listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        given = pa.table({"id": ids, "text": texts, "metadata": list(map(_json, metadatas)), "vector": listed})
        return lancedb.connect(str(folder / "native")).create_table("passages", given)

    def find(self, table, rows, k):
        def found(query):
            asked = table.search(query).distance_type("dot").select([*_COLUMNS, "_distance"]).limit(k)
            return [(row["id"], row["text"], orjson.loads(row["metadata"]), row["_distance"]) for row in asked.to_list()]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(retriever._table, rows, k)


class Cozo:
    """The user's metadata is the database's JSON; ours is a text."""

    nearest = """?[id, text, metadata, raw] := *{table}{{id, text, metadata, vector}}, raw = cos_dist(vector, vec($vector))
        :order raw :limit $k"""

    def fill(self, folder, rows):
        from pycozo.client import Client

        ids, texts, metadatas, vectors = rows
        client = Client("sqlite", str(folder / "native.db"), dataframe=False)
        client.run(f":create passages {{id: String => text: String, metadata: Json, vector: <F32; {vectors.shape[1]}>}}")
        said = "?[id, text, metadata, vector] <- $rows :put passages {id => text, metadata, vector}"
        given = list(zip(ids, texts, metadatas, vectors.tolist(), strict=True))
        for start in range(0, len(given), 1000):
            client.run(said, {"rows": [list(one) for one in given[start : start + 1000]]})
        return client

    def find(self, client, rows, k):
        script = self.nearest.format(table="passages")
        return lambda query: [tuple(row) for row in client.run(script, {"vector": query.tolist(), "k": k})["rows"]]

    def find_ours(self, retriever, rows, k):
        client, script = retriever._client, self.nearest.format(table=_OURS)

        def found(query):
            nearest = client.run(script, {"vector": query.tolist(), "k": k})["rows"]
            return [(name, text, orjson.loads(metadata), raw) for name, text, metadata, raw in nearest]

        return found


class Ladybug:
    def fill(self, folder, rows):
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
        return base

    def find(self, base, rows, k, label="P"):
        said = f"""MATCH (p:{label}) RETURN p.id, p.text, p.metadata,
            array_inner_product(p.vector, CAST($vector, 'FLOAT[{rows[3].shape[1]}]')) AS raw ORDER BY raw DESC LIMIT $k"""

        def found(query):
            nearest = base.execute(said, {"vector": query.tolist(), "k": k}).get_all()
            return [(name, text, orjson.loads(metadata), raw) for name, text, metadata, raw in nearest]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(retriever._connected, rows, k, _OURS)


class SurrealDb:
    """The user's metadata is an object; ours is a text."""

    nearest = "SELECT pid, text, metadata, vector::dot(vector, $vector) AS raw FROM {table} ORDER BY raw DESC LIMIT $k"

    def fill(self, folder, rows):
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
        return client

    def find(self, client, rows, k, table="passages", read=lambda metadata: metadata):
        said = self.nearest.format(table=table)

        def found(query):
            answer = client.query(said, {"vector": query.tolist(), "k": k})
            answer = answer.execute()[-1] if hasattr(answer, "execute") else answer
            return [(row["pid"], row["text"], read(row["metadata"]), row["raw"]) for row in answer]

        return found

    def find_ours(self, retriever, rows, k):
        return self.find(retriever._client, rows, k, _OURS, orjson.loads)


TABLES = {
    "sqlite": Sqlite(), "sqlite-vec": SqliteVec(), "libsql": LibSql(), "turso": Turso(), "duckdb": DuckDb(), "lancedb": LanceDb(),
    "cozo": Cozo(), "ladybug": Ladybug(), "surrealdb": SurrealDb(),
}  # fmt: skip
