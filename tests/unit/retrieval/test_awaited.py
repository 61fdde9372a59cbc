"""What awaits its store: a client for each event loop, and collections whose every act waits without a thread."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import threading

import pytest

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.awaited import AwaitedCollection
from dspex_nb.retrieval.facts import Dialect
from dspex_nb.retrieval.loops import OfLoops
from dspex_nb.testing.embedding import HashEmbedder


class Client:
    def __init__(self, log):
        self.log, self.loop = log, asyncio.get_running_loop()

    async def close(self):
        await asyncio.sleep(0)
        self.log.append("closed" if self.loop is asyncio.get_running_loop() else "closed in another loop")


class Opener:
    def __init__(self):
        self.log, self.wrong = [], None

    async def __call__(self):
        self.log.append("opened")
        await asyncio.sleep(0.01)
        if self.wrong is not None:
            raise self.wrong
        return Client(self.log)


class TestOfLoops:
    def test_a_loop_has_one_client_that_it_closes_as_it_ends(self):
        opener = Opener()
        clients = OfLoops(opener)

        async def use():
            found = await asyncio.gather(*(clients.client() for _ in range(5)))
            assert len(set(map(id, found))) == 1
            assert found[0] is await clients.client()

        for _ in range(2):
            asyncio.run(use())
        assert opener.log == ["opened", "closed"] * 2

    def test_an_opening_that_fails_or_is_given_up_is_tried_again(self):
        opener = Opener()
        clients = OfLoops(opener)

        async def use():
            opener.wrong = OSError("not there")
            with pytest.raises(OSError, match="not there"):
                await clients.client()
            opener.wrong = None
            task = asyncio.ensure_future(clients.client())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await clients.client()

        asyncio.run(use())
        assert opener.log == ["opened"] * 3 + ["closed"]

    def test_closing_from_another_thread_closes_in_the_clients_loop(self):
        opener = Opener()
        clients = OfLoops(opener)

        async def use():
            await clients.client()
            thread = threading.Thread(target=clients.close)
            thread.start()
            while "closed" not in opener.log:  # noqa: ASYNC110 - the log is no event
                await asyncio.sleep(0.01)
            thread.join()
            await clients.client()

        asyncio.run(use())
        clients.close()  # a loop that is gone has nothing left to close
        assert opener.log == ["opened", "closed"] * 2

    def test_a_loop_that_ended_rudely_does_not_harm_the_next(self):
        opener = Opener()
        clients = OfLoops(opener)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(clients.client())
        loop.close()
        asyncio.run(clients.client())
        gc.collect()
        assert opener.log == ["opened", "opened", "closed"]
        assert len(clients._lives) == 1


class Predicates(Dialect):
    """Conditions as functions of a row's facts."""

    def holds(self, tokens):
        return lambda facts: bool(set(tokens) & set(facts))

    def every(self, parts):
        return lambda facts: all(part(facts) for part in parts)

    def some(self, parts):
        return lambda facts: any(part(facts) for part in parts)

    def opposite(self, part):
        return lambda facts: not part(facts)


class Told(AwaitedCollection):
    """Rows in a dict, given by the called client and by the awaited one."""

    name, kept, concurrent, batch_size = "told", "server", True, 2
    dialect = Predicates()

    def _open(self):
        self.held, self.awaited, self.fails = {}, [], False

    async def _aopen(self):
        return AwaitedTold(self)

    def _create(self, dimension):
        pass

    def _write(self, rows):
        self.held.update((row.id, row) for row in rows)

    def _remove(self, ids):
        for one in ids:
            del self.held[one]

    def _held(self, ids):
        return [one for one in ids if one in self.held]

    def _rows(self):
        return [(row.id, row.text, row.metadata) for row in self.held.values()]

    def _size(self):
        return len(self.held)

    def _found(self, vector, k, where):
        rows = [row for row in self.held.values() if where is None or where(row.facts)]
        near = [(row.id, row.text, row.metadata, sum(a * b for a, b in zip(vector, row.vector, strict=True))) for row in rows]
        return sorted(near, key=lambda row: -row[3])[:k]


class AwaitedTold:
    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        async def call(*given):
            self.store.awaited.append(name)
            await asyncio.sleep(0)
            if self.store.fails:
                raise ConnectionError("gone; the password is s3cret")
            return getattr(self.store, f"_{name}")(*given)

        return call

    async def close(self):
        self.store.awaited.append("close")


class TestCollection:
    def test_every_act_is_awaited_and_says_what_the_called_one_does(self, monkeypatch):
        found, called = Told(embedder=HashEmbedder()), Told(embedder=HashEmbedder())
        texts = {f"n{n}": {"text": f"moon number {n}", "n": n} for n in range(5)}
        called.add(texts)
        asked = [
            ("moon number 3", 2, None),
            (["moon 1", "number 2"], 3, None),
            ("moon", 9, {"n": {"$gt": 1}}),
            ("moon", 9, {"n": 4}),
        ]

        async def use():
            assert await found.acount() == await found.adelete("n1") == 0
            await found.aadd({"n0": "made"})
            monkeypatch.setattr(asyncio, "to_thread", None)
            assert await found.aadd(texts) == list(texts)
            assert await asyncio.gather(*(found.asearch(*one) for one in asked)) == [called.search(*one) for one in asked]
            batches = [await found.abatch([one[0] for one in asked], 3, one[2]) for one in asked]
            assert batches == [called.batch([one[0] for one in asked], 3, one[2]) for one in asked]
            assert await found.acount() == 5
            assert await found.adelete(["n1", "n1", "none"]) == 1

        asyncio.run(use())
        assert found.count() == 4
        assert found.awaited.count("write") == 1 + 3  # two rows a call
        assert found.awaited[-1] == "close"
        assert found.version != called.version
        called.delete("n1")
        assert found.version == called.version

    def test_what_fails_is_told_as_if_called(self):
        found = Told({"a": "text"}, embedder=HashEmbedder())
        found._secrets, found.fails = ["s3cret"], True

        async def use():
            for act in (found.asearch("text"), found.aadd(["new"]), found.adelete("a"), found.acount()):
                with pytest.raises(RetrieverError, match="in told failed: ConnectionError: gone") as told:
                    await act
                assert "s3cret" not in str(told.value)

        asyncio.run(use())


@pytest.mark.skipif(importlib.util.find_spec("qdrant_client") is None, reason="pip install 'dspex_nb[qdrant]'")
def test_qdrants_asyncio_client_is_asked_as_the_called_one(monkeypatch):
    """No server of Qdrant can be had here: the calls are held against the asyncio client's signatures, and the local mode answers."""
    import qdrant_client

    from dspex_nb.retrieval.stores.qdrant import Qdrant

    found, real = Qdrant(embedder=HashEmbedder()), qdrant_client.AsyncQdrantClient

    class Local:
        def __init__(self, **reached):
            inspect.signature(real).bind(**reached)

        def __getattr__(self, name):
            async def call(*given, **named):
                inspect.signature(getattr(real, name)).bind(self, *given, **named)
                return getattr(found._client, name)(*given, **named)

            return call

        async def close(self):
            pass

    monkeypatch.setattr(qdrant_client, "AsyncQdrantClient", Local)
    found.concurrent = True

    async def use():
        await found.aadd({"a": "bright rings", "b": {"text": "red dust", "n": 2}, "c": {"text": "red", "n": 1}})
        assert await found.acount() == 3
        for condition in (None, {"n": {"$gt": 1}}, {"n": 1}):
            assert await found.asearch("red dust", 3, condition) == found.search("red dust", 3, condition)
        assert await found.adelete(["a", "z"]) == 1
        return await found.acount()

    assert asyncio.run(use()) == found.count() == 2


@pytest.mark.skipif(importlib.util.find_spec("lancedb") is None, reason="pip install 'dspex_nb[lancedb]'")
class TestLanceDb:
    def test_searches_in_a_folder_wait_on_its_own_threads(self, tmp_path, monkeypatch):
        from dspex_nb.retrieval.stores import lancedb

        found, running, most, real = lancedb.LanceDb(embedder=HashEmbedder(), path=tmp_path), [], [], lancedb.AwaitedTable.found

        async def counted(table, *given):
            running.append(1)
            most.append(len(running))
            try:
                return await real(table, *given)
            finally:
                running.pop()

        monkeypatch.setattr(lancedb.AwaitedTable, "found", counted)
        found.add({"a": "bright rings", "b": {"text": "red dust", "n": 2}, "c": {"text": "red", "n": 1}})
        expected = {one: found.search("red dust", 3, condition) for one, condition in enumerate([None, {"n": 1}, {"tag": "x"}])}

        async def use():
            with monkeypatch.context() as inside:
                inside.setattr(asyncio, "to_thread", None)
                before = set(threading.enumerate())
                assert await asyncio.gather(*(found.asearch("red dust", 3) for _ in range(10))) == [expected[0]] * 10
                assert await found.asearch("red dust", 3, {"n": 1}) == expected[1]
                assert await found.asearch("red dust", 3, {"tag": "x"}) == expected[2] == []
                assert not set(threading.enumerate()) - before
            assert await found.asearch("red dust", 3, {"n": {"$gt": 1}}) == found.search("red dust", 3, {"n": {"$gt": 1}})
            for mode in ("sparse", "hybrid", {"dense": 3, "sparse": 1}):
                assert await found.asearch("red dust", 3, mode=mode) == found.search("red dust", 3, mode=mode)

        for _ in range(2):
            asyncio.run(use())
        assert max(most) == 10

    def test_what_is_added_and_deleted_is_seen(self, tmp_path):
        from dspex_nb.retrieval.stores.lancedb import LanceDb

        found = LanceDb(embedder=HashEmbedder(), path=tmp_path)

        async def use():
            assert await found.asearch("red") == []
            await found.aadd({"a": "bright rings", "b": "red dust"})
            assert [one.id for one in await found.asearch("red dust", 1)] == ["b"]
            await found.aadd({"b": "red sand"})
            found.add({"c": "red moon"})
            assert {one.text for one in await found.asearch("red sand moon", 2)} == {"red sand", "red moon"}
            assert await found.adelete(["b", "z"]) == 1
            return [one.id for one in await found.asearch("red", 3)]

        assert sorted(asyncio.run(use())) == ["a", "c"]

    @pytest.mark.parametrize("times", [1, 9])
    def test_a_filter_finds_what_is_replaced_meanwhile(self, tmp_path, monkeypatch, times):
        from dspex_nb.retrieval.stores import lancedb

        index = lancedb.LanceDb({"b": {"text": "blue", "n": 2}}, embedder=HashEmbedder(), path=tmp_path)
        index.add({"a": {"text": "red dust", "n": 1}})
        replaced, real = [], lancedb.AwaitedTable.found

        async def found(table, *given):
            if len(replaced) < times:
                replaced.append(f"red dust {len(replaced)}")
                await asyncio.to_thread(index.add, {"a": {"text": replaced[-1], "n": 1}})
            return await real(table, *given)

        monkeypatch.setattr(lancedb.AwaitedTable, "found", found)
        assert [one.text for one in asyncio.run(index.asearch("red dust", 3, {"n": 1}))] == [replaced[-1]]

    def test_in_memory_there_is_one_client(self):
        from dspex_nb.retrieval.stores.lancedb import LanceDb

        found = LanceDb({"a": "red dust"}, embedder=HashEmbedder())
        assert not found.concurrent
        assert [one.id for one in asyncio.run(found.asearch("red"))] == ["a"]
