"""The shipped suite over services that none can run here: each protocol, as far as it is used, by a fake over real HTTP.

A fake keeps rows and reads the requests in the service's own words, strictly: a word that it does not know is a 400. It shows
that our requests are what the documents say, not that the service understands them so: hence the label `wire`.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import threading
import uuid
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from dspex_nb.errors import FilterError, RetrieverError
from dspex_nb.retrieval import retriever
from dspex_nb.testing.embedding import HashEmbedder
from dspex_nb.testing.retriever_suite import PLANETS
from dspex_nb.testing.vector_suite import LastingVectorSuite

KEY = "s3cret-Elephant"


class Refused(Exception):  # noqa: N818 - the word
    """A request that the service would refuse."""


class Fake:
    """A service at `url`; a subclass answers `handle(method, path, query, body, headers)` with a status and JSON."""

    def __init__(self):
        self.indexes, self.lock, fake = {}, threading.RLock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                parts = urlsplit(self.path)
                try:
                    with fake.lock:
                        status, reply = fake.handle(self.command, parts.path, parse_qs(parts.query), raw, self.headers)
                except (Refused, KeyError, IndexError, TypeError, ValueError) as error:
                    status, reply = 400, {"error": f"{type(error).__name__}: {error}"}
                body = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = answer  # noqa: N815 - http.server's names

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def nearest(rows, vector, k, keep):
    """The rows that are kept, by cosine, nearest first."""
    kept = [row for row in rows if keep(row)]
    if not kept:
        return []
    cosines = np.array([row["vector"] for row in kept], dtype=np.float32) @ np.array(vector, dtype=np.float32)
    return [(kept[at], float(cosines[at])) for at in np.argsort(-cosines)[:k]]


def by_words(rows, terms, keep):
    asked = set(terms.split())
    scored = [(row, float(len(asked & set(row["words"].split())))) for row in rows if keep(row)]
    return sorted((one for one in scored if one[1]), key=lambda one: -one[1])


class FakeElastic(Fake):
    """Elasticsearch, and with `opensearch` its fork, where the two differ."""

    def __init__(self, opensearch=False):
        self.opensearch = opensearch
        super().__init__()

    def handle(self, method, path, query, raw, headers):  # noqa: PLR0911 - one a request
        if headers.get("authorization") != f"{'Basic' if self.opensearch else 'ApiKey'} {KEY}":
            return 401, {"error": "missing authentication credentials"}
        _, name, action = [*path.split("/"), ""][:3]
        if (method, action) == ("PUT", ""):
            asked = json.loads(raw)
            vector = asked["mappings"]["properties"]["vector"]
            expected = (
                {
                    "type": "knn_vector",
                    "dimension": vector.get("dimension"),
                    "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
                }
                if self.opensearch
                else {"type": "dense_vector", "dims": vector.get("dims"), "index": True, "similarity": "dot_product"}
            )
            if vector != expected or asked["settings"].get("index.knn") is not (True if self.opensearch else None):
                raise Refused(vector)
            self.indexes[name] = {"mapping": asked["mappings"], "rows": {}}
            return 200, {"acknowledged": True}
        if name not in self.indexes:
            return 404, {"error": {"type": "index_not_found_exception"}}
        rows = self.indexes[name]["rows"]
        if action == "_mapping":
            return 200, {name: {"mappings": self.indexes[name]["mapping"]}}
        if action == "_count":
            return 200, {"count": len(rows)}
        if action == "_mget":
            return 200, {"docs": [{"_id": one, "found": one in rows, "_source": rows.get(one)} for one in json.loads(raw)["ids"]]}
        if action == "_bulk":
            return 200, self.bulk(rows, [json.loads(line) for line in raw.decode().splitlines()])
        return 200, {"hits": {"hits": self.search(rows, json.loads(raw))}}

    def bulk(self, rows, lines):
        while lines:
            ((verb, where),) = lines.pop(0).items()
            if verb == "index":
                rows[where["_id"]] = lines.pop(0)
            elif verb == "delete":
                rows.pop(where["_id"], None)
            else:
                raise Refused(verb)
        return {"errors": False, "items": []}

    def search(self, rows, asked):
        size = asked.pop("size")
        assert asked.pop("_source") == ["id", "text", "metadata"]
        if "sort" in asked:
            assert asked["sort"] == [{"id": "asc"}]
            after = asked.get("search_after", [""])[0]
            found = sorted((row for row in rows.values() if row["id"] > after), key=lambda row: row["id"])[:size]
            return [{"_source": row, "sort": [row["id"]]} for row in found]
        if "knn" in asked or "knn" in asked.get("query", {}):
            knn = asked["query"]["knn"]["vector"] if self.opensearch else asked["knn"]
            vector = knn["vector"] if self.opensearch else knn["query_vector"]
            if not self.opensearch and knn["num_candidates"] < knn["k"]:
                raise Refused("num_candidates cannot be less than k")
            found = nearest(rows.values(), vector, min(knn["k"], size), lambda row: holds_bool(knn.get("filter"), row))
            return [{"_source": row, "_score": (1 + cosine) / 2} for row, cosine in found]
        inside = asked["query"]["bool"]
        found = by_words(
            rows.values(), inside["must"][0]["match"]["words"], lambda row: all(holds_bool(one, row) for one in inside["filter"])
        )
        return [{"_source": row, "_score": score} for row, score in found[:size]]


def holds_bool(asked, row):
    if asked is None:
        return True
    ((word, inside),) = asked.items()
    if word == "terms":
        return bool(set(inside["facts"]) & set(row["facts"]))
    if word != "bool" or set(inside) - {"filter", "should", "must_not", "minimum_should_match"}:
        raise Refused(asked)
    return (
        all(holds_bool(one, row) for one in inside.get("filter", []))
        and not any(holds_bool(one, row) for one in inside.get("must_not", []))
        and ("should" not in inside or any(holds_bool(one, row) for one in inside["should"]))
    )


class FakePinecone(Fake):
    """An index of Pinecone for vectors of 64 numbers."""

    def handle(self, method, path, query, raw, headers):  # noqa: PLR0911 - one a request
        if headers.get("api-key") != KEY or not headers.get("x-pinecone-api-version"):
            return 401, {"message": "Invalid API Key"}
        asked = json.loads(raw) if raw else {}
        name = asked.get("namespace") or query.get("namespace", [""])[0]
        rows = self.indexes.get(name, {})
        match (method, path):
            case ("POST", "/describe_index_stats"):
                return 200, {
                    "dimension": 64,
                    "namespaces": {name: {"vectorCount": len(rows)} for name, rows in self.indexes.items() if rows},
                }
            case ("POST", "/vectors/upsert"):
                if len(asked["vectors"]) > 100:
                    raise Refused("too many vectors in one request")
                self.indexes.setdefault(name, {}).update(
                    {one["id"]: {**one, "vector": one["values"], **one["metadata"]} for one in asked["vectors"]}
                )
                return 200, {"upsertedCount": len(asked["vectors"])}
            case ("POST", "/vectors/delete"):
                for one in asked["ids"]:
                    rows.pop(one, None)
                return 200, {}
            case ("GET", "/vectors/fetch"):
                return 200, {
                    "vectors": {one: {"id": one, "metadata": self.meta(rows[one])} for one in query["ids"] if one in rows}
                }
            case ("GET", "/vectors/list"):
                keys, start = sorted(rows), int(query.get("paginationToken", ["0"])[0])
                page = keys[start : start + int(query["limit"][0])]
                more = {"pagination": {"next": str(start + len(page))}} if start + len(page) < len(keys) else {}
                return 200, {"vectors": [{"id": one} for one in page], **more}
            case ("POST", "/query"):
                found = nearest(rows.values(), asked["vector"], asked["topK"], lambda row: holds_in(asked.get("filter"), row))
                return 200, {"matches": [{"id": "", "score": cosine, "metadata": self.meta(row)} for row, cosine in found]}
        return 404, {"message": "not found"}

    def meta(self, row):
        return {name: row[name] for name in ("id", "text", "metadata", "facts")}


def holds_in(asked, row):
    if asked is None:
        return True
    ((word, inside),) = asked.items()
    if word in ("$and", "$or"):
        return (all if word == "$and" else any)(holds_in(one, row) for one in inside)
    ((test, tokens),) = inside.items()
    if word != "facts" or test not in ("$in", "$nin"):
        raise Refused(asked)
    return bool(set(tokens) & set(row["facts"])) is (test == "$in")


class FakeAzure(Fake):
    """A service of Azure AI Search."""

    def handle(self, method, path, query, raw, headers):
        if headers.get("api-key") != KEY:
            return 403, {"error": {"message": "no"}}
        if query["api-version"] != ["2024-07-01"]:
            raise Refused(query)
        name, action = re.fullmatch(r"/indexes\('(\w+)'\)(.*)", path).groups()
        if (method, action) == ("PUT", ""):
            self.indexes[name] = {**json.loads(raw), "rows": {}}
            return 201, {}
        if name not in self.indexes:
            return 404, {"error": {"message": "no such index"}}
        index = self.indexes[name]
        if method == "GET":
            return 200, {"fields": index["fields"]}
        asked = json.loads(raw)
        if action == "/docs/search.index":
            for one in asked["value"]:
                verb = one.pop("@search.action")
                if verb == "upload":
                    index["rows"][one["key"]] = one
                elif verb == "delete":
                    index["rows"].pop(one["key"], None)
                else:
                    raise Refused(verb)
            return 200, {"value": [{"key": one["key"], "status": True} for one in asked["value"]]}
        if action != "/docs/search.post.search":
            raise Refused(action)
        return 200, self.search(list(index["rows"].values()), asked)

    def search(self, rows, asked):
        keep = azure_filter(asked.get("filter"))
        fields = asked.get("select", "").split(",")
        if "vectorQueries" in asked:
            (one,) = asked["vectorQueries"]
            found = [(row, 1 / (2 - cosine)) for row, cosine in nearest(rows, one["vector"], min(one["k"], asked["top"]), keep)]
        elif asked["search"] == "*":
            kept = sorted((row for row in rows if keep(row)), key=lambda row: row["key"])
            if asked.get("count"):
                return {"@odata.count": len(kept), "value": []}
            found = [(row, 1.0) for row in kept[asked["skip"] : asked["skip"] + asked["top"]]]
        else:
            found = by_words(rows, asked["search"], keep)[: asked["top"]]
        return {"value": [{"@search.score": score, **{name: row[name] for name in fields}} for row, score in found]}


def azure_filter(text):
    """Read the OData filter by rewriting it, token by token, as a Python expression of a set of facts."""
    if text is None:
        return lambda row: True
    place, written = 0, []
    grammar = re.compile(
        r"\s+|(?P<any>facts/any\(fact: search\.in\(fact, '([0-9a-f,]*)', ','\)\))|(?P<key>search\.in\(key, '([0-9a-f,-]*)', ','\))|(?P<word>and|or|not|\(|\))"
    )
    sets = []
    while place < len(text):
        found = grammar.match(text, place)
        if not found:
            raise Refused(text[place:])
        place = found.end()
        if found["any"] or found["key"]:
            sets.append(set((found[2] or found[4]).split(",")))
            written.append(f"bool(sets[{len(sets) - 1}] & {'facts' if found['any'] else 'key'})")
        elif found["word"]:
            written.append(found["word"])
    program = compile(" ".join(written), "filter", "eval")
    return lambda row: eval(  # noqa: S307 - built from six words above
        program, {"sets": sets, "facts": set(row["facts"]), "key": {row["key"]}, "bool": bool}
    )


class Wired(LastingVectorSuite):
    """Makes an index under a new name each time, on one fake for the class."""

    shared = True
    many = 2000
    store = ""

    @pytest.fixture(autouse=True)
    def _fake(self, record_property):
        for name, value in {"row": self.store, "kind": self.store, "label": "wire"}.items():
            record_property(name, value)
        self.record, self.fake = lambda name, value: None, self.make_fake()
        yield
        self.fake.close()

    def make_retriever(self, index=None):
        return self._opened(f"t_{uuid.uuid4().hex[:12]}", index)

    def open_again(self, found):
        return self._opened(found._name)

    def known_as(self, found):
        return self.store, {"url": self.fake.url, "collection": found._name, "api_key": KEY}

    def _opened(self, name, index=None):
        return retriever(self.store, index=index, url=self.fake.url, collection=name, api_key=KEY, embedder=HashEmbedder())

    def test_a_wrong_key_and_no_server(self):
        for config in ({"url": self.fake.url, "api_key": "wr0ng-Key"}, {"url": "http://127.0.0.1:9", "api_key": KEY}):
            with pytest.raises(RetrieverError) as caught:
                retriever(self.store, index=["a text"], embedder=HashEmbedder(), **config)
            assert caught.value.hint
            assert config["api_key"] not in str(caught.value)
        assert KEY not in repr(self.make_retriever())

    def test_what_is_awaited_is_what_is_called(self):
        index = self.make_retriever(PLANETS)
        ways = [*index.modes, *([{"dense": 3, "sparse": 1}, {"dense": 1}] if "hybrid" in index.modes else [])]
        filters = [None, {"moons": {"$gt": 1}} if index.going_through else {"$not": {"rocky": True}}]
        queries = ["bright rings", ["red dust", "largest storm"], ""]
        asked = [(query, 3, one, way) for query in queries for one in filters for way in ways]

        async def awaited():
            batches = [await index.abatch(queries, 2, one, way) for one in filters for way in ways]
            return await asyncio.gather(*(index.asearch(*one) for one in asked)), batches, await index.acount()

        found, batches, count = asyncio.run(awaited())
        assert found == [index.search(*one) for one in asked]
        assert batches == [index.batch(queries, 2, one, way) for one in filters for way in ways]
        assert count == index.count()


class TestElasticsearch(Wired):
    store = "elasticsearch"

    def make_fake(self):
        return FakeElastic()


class TestOpensearch(Wired):
    store = "opensearch"

    def make_fake(self):
        return FakeElastic(opensearch=True)


class TestAzure(Wired):
    store = "azure"

    def make_fake(self):
        return FakeAzure()


class TestPinecone(Wired):
    store = "pinecone"
    may_refuse_filters = True

    def make_fake(self):
        return FakePinecone()

    def test_orders_are_refused(self):
        with pytest.raises(FilterError, match="cannot keep"):
            self.make_retriever(["a text"]).search("text", filter={"n": {"$gt": 1}})

    def test_it_lasts(self):
        first = self.make_retriever({"a": "bright rings", "b": "red dust"})
        again = self.open_again(first)
        assert (again.count(), again.version) == (2, first.version)
        again.delete("a")
        assert [one.id for one in first.search("bright rings")] == ["b"]


for made in (TestElasticsearch, TestOpensearch, TestAzure, TestPinecone):
    pytest.mark.services(made)
del made
