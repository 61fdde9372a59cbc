from __future__ import annotations

from pathlib import Path

from dspex_nb.testing.pool_promises import PROMISES
from dspex_nb.testing.pool_suite import PoolSuite
from dspex_nb.testing.pool_table import Outcomes, differences, read_table, table

WRITTEN = Path(__file__).parents[3] / "docs" / "pools-table.md"


def test_every_promise_has_a_test_and_every_test_a_promise():
    tests = [getattr(PoolSuite, name) for name in dir(PoolSuite) if name.startswith("test_")]
    assert {test.promise for test in tests} == set(PROMISES)


def test_the_written_table_has_every_promise_of_every_backend():
    written = read_table(WRITTEN.read_text(encoding="utf-8"))
    assert list(written) == ["thread", "loky", "dask", "ray"]
    for cells in written.values():
        assert list(cells) == PROMISES
        assert all(cell == "yes" or cell.startswith(("no: ", "partly: ")) for cell in cells.values())


def test_a_table_is_read_as_it_was_written_and_contradictions_are_named():
    outcomes = Outcomes()
    outcomes.add("thread", PROMISES[0], "skipped", "no threads")
    outcomes.add("thread", PROMISES[1], "passed", "")
    outcomes.add("thread", PROMISES[1], "passed", "a little")
    text = table(outcomes, {"loky": {PROMISES[1]: "yes"}})
    written = read_table(text)
    assert [written["thread"][promise] for promise in PROMISES[:3]] == ["no: no threads", "partly: a little", ""]
    assert written["loky"][PROMISES[1]] == "yes"
    assert not list(differences(outcomes, written))
    outcomes.add("thread", PROMISES[1], "failed", "")
    assert "FAILED" in next(iter(differences(outcomes, written)))
