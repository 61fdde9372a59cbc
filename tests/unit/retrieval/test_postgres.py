"""What is special to PostgreSQL, on a real server."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from dspex_nb.errors import DataError, DSPexError, RetrieverError
from dspex_nb.retrieval import retriever
from dspex_nb.retrieval.postgres_statements import FIND

PASSWORD = "s3cret-Elephant"  # the fixture's


@pytest.fixture
def made(postgres, table):
    """Make indexes on the table; they are dropped at the end."""
    done = []

    def make(index=None, **options):
        done.append(retriever("postgres", index=index, **{"dsn": postgres.dsn(), "table": table, **options}))
        return done[-1]

    yield make
    for one in done:
        one.drop()


def rows(postgres, statement, *values):
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


class TestSearch:
    def test_stems_of_a_language(self, made, table):
        found = made({"a": "She was connecting the wires.", "b": "A wire."})
        assert [one.id for one in found.search("connected wire")] == ["a", "b"]
        german = made({"x": "Die Häuser der Stadt"}, table=f"{table}_de", language="german")
        assert [one.id for one in german.search("Haus")] == ["x"]

    def test_phrases_and_exclusion(self, made):
        found = made({"a": "the for loop runs", "b": "the loop, for once", "c": "a while loop runs"})
        assert {one.id for one in found.search('"loop runs"')} == {"a", "c"}
        assert {one.id for one in found.search("loop -runs")} == {"b"}
        assert {one.id for one in found.search("well-known loop")} == {"a", "b", "c"}

    def test_the_passage_with_most_of_the_words_is_first(self, made):
        found = made({"a": "loop loop loop loop", "b": "how a generator ends a loop", "c": "generator"})
        hits = found.search("how does a generator end a loop?")
        assert [one.id for one in hits] == ["b", "c", "a"] or [one.id for one in hits] == ["b", "a", "c"]
        assert hits[0].score > 1 > hits[1].score - 0.5

    def test_stop_words_alone_find_nothing(self, made):
        assert made(["the of and"]).search("the of and") == []


class TestTable:
    def test_the_same_cell_run_again_changes_nothing(self, made, postgres, table):
        first = made(["one", "two"])
        look = f"SELECT xmin::text, id FROM {table} ORDER BY id"  # noqa: S608 - a name made by the fixture
        before = rows(postgres, look)
        again = made(["one", "two"])
        assert rows(postgres, look) == before
        assert again.version == first.version

    def test_what_another_program_changed_is_another_version(self, made, postgres, table):
        found = made({"a": "one"})
        before = found.version
        rows(postgres, f"UPDATE {table} SET metadata = '{{\"n\": 1}}'")  # noqa: S608
        assert found.version != before

    @pytest.mark.parametrize("name", ["", "a b", "x; DROP TABLE y", 'a"b', "A", "1a", "a" * 60, "public.x", 7, None])
    def test_names_that_are_not_safe(self, postgres, name):
        with pytest.raises(RetrieverError, match="is not a safe name"):
            retriever("postgres", dsn=postgres.dsn(), table=name)

    def test_a_table_of_someone_else_is_left_alone(self, postgres, table):
        rows(postgres, f"CREATE TABLE {table} (id int)")
        with pytest.raises(RetrieverError, match="was not made by a retriever"):
            retriever("postgres", dsn=postgres.dsn(), table=table)
        assert rows(postgres, f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608
        rows(postgres, f"DROP TABLE {table}")

    def test_languages(self, made, postgres, table):
        made(["one"])
        with pytest.raises(RetrieverError, match="made with language='english', not 'german'") as caught:
            retriever("postgres", dsn=postgres.dsn(), table=table, language="german")
        assert "language='english'" in caught.value.hint
        with pytest.raises(RetrieverError, match="no text search language 'englsh'") as caught:
            retriever("postgres", dsn=postgres.dsn(), table=f"{table}x", language="englsh")
        assert "did you mean 'english'" in caught.value.hint

    def test_many_make_it_at_once(self, made):
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda number: made([f"text {number}"]), range(8)))
        assert found[0].count() == 8

    def test_a_failed_batch_leaves_nothing(self, made):
        found = made()
        with pytest.raises(DataError, match="holds a NUL"):
            found.add(["fine", "a\x00b"])
        with pytest.raises(DataError, match="'odd' holds a NUL or half a surrogate"):
            found.add(["a"], [{"x": ["\x00"]}], ["odd"])
        with pytest.raises(DataError, match="half a surrogate"):
            found.add(["\ud800"], ids=["odd"])
        with pytest.raises(DataError, match="PostgreSQL cannot hold a passage"):
            found.add(["fine", " ".join(f"w{number}" for number in range(200_000))])
        assert found.count() == 0

    def test_thousands_of_passages_use_the_index(self, made, postgres, table):
        found = made({f"p{number}": f"passage number{number} about topic{number % 50}" for number in range(5000)})
        assert found.count() == 5000
        assert [one.id for one in found.search("number4321", k=3)] == ["p4321"]
        rows(postgres, f"ANALYZE {table}")
        statement = found.filled(FIND, where=sql.SQL("true"))
        with psycopg.connect(postgres.dsn()) as connection:
            plan = connection.execute(
                sql.SQL("EXPLAIN ") + statement, [["'number4321'"], "'number4321'", "'number4321'", 3]
            ).fetchall()
        assert any(f"Bitmap Index Scan on {table}_document_idx" in line for (line,) in plan), "\n".join(line for (line,) in plan)


class TestConnections:
    def told(self, make):
        with pytest.raises(RetrieverError) as caught:
            make()
        error = caught.value
        assert PASSWORD not in f"{error}{error!r}{error.__cause__}{error.__dict__}"
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert error.hint
        return error

    def test_no_server(self, postgres):
        error = self.told(lambda: retriever("postgres", dsn=postgres.dsn(port=1)))
        assert "no connection to PostgreSQL at 127.0.0.1:" in error.message
        assert "check that the server runs" in error.hint

    def test_a_wrong_password(self, postgres):
        error = self.told(lambda: retriever("postgres", dsn=postgres.dsn(password="wr0ng-Secret")))
        assert "wr0ng-Secret" not in str(error)
        assert "PGPASSWORD" in error.hint

    def test_a_database_that_is_not_there(self, postgres):
        error = self.told(lambda: retriever("postgres", dsn=postgres.dsn(database="nowhere")))
        assert '"nowhere" does not exist' in error.message
        assert "createdb" in error.hint

    @pytest.mark.parametrize("dsn", [f"{PASSWORD}", f"postgresql://u:{PASSWORD}@[::1/db", f"password={PASSWORD} nonsense=1"])
    def test_what_is_no_connection_string(self, dsn):
        assert "not a connection string" in self.told(lambda: retriever("postgres", dsn=dsn)).message

    def test_a_user_without_rights(self, postgres, table):
        rows(postgres, f"CREATE ROLE r_{table} LOGIN PASSWORD '{PASSWORD}'")
        error = self.told(lambda: retriever("postgres", dsn=postgres.dsn(user=f"r_{table}"), table=table))
        assert "refused: permission denied" in error.message
        rows(postgres, f"DROP ROLE r_{table}")

    def test_a_statement_that_takes_too_long(self, made, postgres, table):
        found = made(["one text"], timeout_s=0.1)
        with psycopg.connect(postgres.dsn()) as blocker:
            blocker.execute(f"LOCK TABLE {table}")
            error = self.told(lambda: found.search("text"))
        assert "took longer than 0.1 s" in error.message
        assert [str(one) for one in found.search("text")] == ["one text"]

    def test_the_password_is_nowhere(self, made, monkeypatch):
        found = made(["one text"])
        assert PASSWORD not in repr(found)
        assert "127.0.0.1" in repr(found)
        assert PASSWORD.encode() not in pickle.dumps(found)
        again = pickle.loads(pickle.dumps(found))
        with pytest.raises(RetrieverError, match="no connection") as caught:
            again.search("text")
        assert "PGPASSWORD" in caught.value.hint
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        assert again.search("text") == found.search("text")
        again.close()

    def test_broken_connections_are_replaced(self, made, postgres):
        found = made(["one text"])
        rows(
            postgres,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        assert [str(one) for one in found.search("text")] == ["one text"]

    def test_searches_run_at_once_and_connections_are_few(self, made, postgres, table):
        found = made(["one text"])

        async def searches():
            return await asyncio.gather(*(found.asearch("text") for _ in range(6)))

        with psycopg.connect(postgres.dsn()) as blocker:
            blocker.execute(f"LOCK TABLE {table}")
            thread = threading.Thread(target=lambda: results.extend(asyncio.run(searches())))
            results = []
            thread.start()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            deadline = time.monotonic() + 20
            while (at_once := rows(postgres, waiting)[0][0]) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
            blocker.rollback()
        thread.join()
        assert at_once >= 2
        assert [len(one) for one in results] == [1] * 6
        with ThreadPoolExecutor(20) as threads:
            assert all(threads.map(lambda _: found.search("text"), range(60)))
        assert len(found._connections._idle) <= 8

    def test_a_forgotten_index_closes_its_connections(self, postgres, table):
        found = retriever("postgres", dsn=postgres.dsn(), table=table)
        (connection,) = found._connections._idle
        rows(postgres, f"DROP TABLE {table}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del found
        assert connection.closed

    def test_a_dropped_table_is_told(self, made, postgres, table):
        found = made(["one text"])
        rows(postgres, f"DROP TABLE {table}")
        with pytest.raises(DSPexError, match="does not exist"):
            found.search("text")


class TestAwaited:
    def test_awaited_searches_wait_on_the_server_together_and_hold_no_thread(self, made, postgres, table, monkeypatch):
        found = made({"loop": "a for loop", "file": "an open file"})
        with psycopg.connect(postgres.dsn(), autocommit=True) as other:
            other.execute(sql.SQL("SELECT pg_advisory_lock(hashtext({}))").format(sql.Literal(table)))
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            slow = FIND.replace(
                "WHERE document", f"WHERE pg_advisory_xact_lock_shared(hashtext('{table}')) IS NOT NULL AND document"
            )
            monkeypatch.setattr("dspex_nb.retrieval.postgres.statements.FIND", slow)

            async def all_of_them():
                monkeypatch.setattr(asyncio, "to_thread", None)
                asked = [asyncio.ensure_future(found.asearch("loop", k=1)) for _ in range(10)]
                threads = set(threading.enumerate())
                while other.execute(waiting).fetchone()[0] < len(asked):
                    assert not any(one.done() for one in asked)
                    await asyncio.sleep(0.02)
                assert not set(threading.enumerate()) - threads  # those of earlier tests may end meanwhile
                other.execute("SELECT pg_advisory_unlock_all()")
                return await asyncio.gather(*asked)

            answers = asyncio.run(all_of_them())
        assert [[one.id for one in answer] for answer in answers] == [["loop"]] * 10

    def test_each_loop_has_its_own_and_a_closed_one_leaves_none(self, made, postgres, table):
        found = made({"loop": "a for loop", "file": "an open file"}, dsn=f"{postgres.dsn()}?application_name={table}")
        with psycopg.connect(postgres.dsn(), autocommit=True) as other:

            def there():
                count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
                return other.execute(count, [table]).fetchone()[0]

            before = there()
            for _ in range(3):  # a loop each
                answers = asyncio.run(found.abatch(["loop", ["file", "loop"], "the"], k=2))
                assert [{one.id for one in answer} for answer in answers] == [{"loop"}, {"file", "loop"}, set()]
                assert there() <= before + 4
            with ThreadPoolExecutor(4) as threads:
                answers = list(threads.map(lambda _: asyncio.run(found.asearch("open file", k=1)), range(8)))
            assert all(answer[0].id == "file" for answer in answers)
            found.close()
            deadline = time.monotonic() + 10
            while there() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert there() == 0

    def test_counting_and_deleting_hold_no_thread(self, made, monkeypatch):
        found = made({"loop": "a for loop", "file": "an open file", "gone": "a lost file"})

        async def use():
            await found.acount()
            monkeypatch.setattr(asyncio, "to_thread", None)
            assert await found.adelete(["gone", "gone", "nowhere"]) == 1
            assert await found.adelete("file") == 1
            assert await found.adelete([]) == 0
            return await found.acount()

        assert asyncio.run(use()) == found.count() == 1

    def test_errors_and_cancelling_leave_it_whole(self, made, postgres, table):
        found = made({"loop": "a for loop"})

        async def use():
            task = asyncio.ensure_future(found.asearch("loop"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await found.asearch("loop"))[0].id == "loop"
            found.drop()
            with pytest.raises(RetrieverError) as told:
                await found.asearch("loop")
            assert PASSWORD not in str(told.value)

        asyncio.run(use())
