"""What processes of a home share, each played by a book of its own on one file; with real processes: test_processes.py."""

from __future__ import annotations

import sqlite3
import time

import pytest

from dspex_nb.errors import BudgetExceededError, DSPexError
from dspex_nb.leases import NamedLeases, read_budget, session_id
from dspex_nb.leases.accounts import Account, Claim
from dspex_nb.leases.book import Book
from dspex_nb.leases.budgets import Budget, Budgets

WINDOW = 60.0


@pytest.fixture
def books(tmp_path):
    made = [Book(tmp_path / "leases.sqlite") for _ in range(2)]
    yield made
    for book in made:
        book.close()


def both(books, **limits):
    return [Account(book, "a", **limits) for book in books]


def claim(account, tokens=0, budget=None, cost=0.0, window=WINDOW):
    account._ask_at = 0.0
    return account.claim(window, tokens, budget, cost)


def test_requests_of_all_count_against_one_rate(books):
    one, other = both(books, rpm=4)
    assert all(isinstance(claim(account), Claim) for account in (one, other, one, other))
    assert 59 < claim(one) <= 60.2
    assert 59 < claim(other) <= 60.2
    assert isinstance(claim(Account(books[0], "another", rpm=4)), Claim)


def test_a_start_is_forgotten_when_its_window_is_over(books):
    one, other = both(books, rpm=1)
    assert isinstance(claim(one, window=0.3), Claim)
    wait_s = claim(other, window=0.3)
    assert 0.2 < wait_s <= 0.31
    time.sleep(wait_s)
    assert isinstance(claim(other, window=0.3), Claim)


def test_tokens_set_aside_are_corrected_for_all(books):
    one, other = both(books, tpm=1000)
    first = claim(one, 800)
    assert claim(other, 800) > 0
    one.settle(first, 15, None)
    assert isinstance(claim(other, 800), Claim)


def test_a_request_larger_than_the_limit_waits_for_an_empty_window(books):
    one, other = both(books, tpm=100)
    assert isinstance(claim(one, 500), Claim)
    assert claim(other, 1) > 0


def test_seats_are_shared_and_given_back(books):
    one, other = both(books, seats=2)
    held = [claim(one), claim(other)]
    assert 0 < claim(one) < 0.1
    other.settle(held[1], 0, None)
    assert isinstance(claim(one), Claim)


def test_what_a_dead_process_held_is_free_and_its_money_spent(books):
    one, other = both(books, seats=1)
    budget = Budget(10.0)
    assert isinstance(claim(one, budget=budget, cost=4.0), Claim)
    with books[0].transaction() as db:
        db.execute("UPDATE holds SET pid = 4194305, started = 1")  # a pid that none can have
    assert isinstance(claim(other, budget=budget, cost=6.0), Claim)
    with pytest.raises(BudgetExceededError, match=r"may cost \$7.00: \$4.00 spent, \$6.00 left"):
        claim(one, budget=budget, cost=7.0)


def test_what_is_not_renewed_is_over_also_where_pids_say_nothing(books):
    one, other = both(books, seats=1)
    assert isinstance(claim(one), Claim)
    with books[0].transaction() as db:
        db.execute("UPDATE holds SET place = 'another machine', pid = 4194305")
    assert claim(other) > 0  # not known to be dead
    with books[0].transaction() as db:
        db.execute("UPDATE holds SET until = ?", (time.time() - 1,))
    assert isinstance(claim(other), Claim)


def test_what_is_held_is_renewed(books, monkeypatch):
    lease = NamedLeases(books[0]).take("k")
    with books[0].transaction() as db:
        before = db.execute("SELECT until FROM leases").fetchone()[0]
    time.sleep(0.01)
    books[0].surely(books[0]._prolong)
    with books[0].transaction() as db:
        assert db.execute("SELECT until FROM leases").fetchone()[0] > before
    NamedLeases(books[0]).give_back(lease)
    assert books[0]._beat.tokens() == []


def test_a_lease_has_one_holder_at_a_time(books):
    one, other = map(NamedLeases, books)
    lease = one.take("k")
    assert other.take("k") is None
    assert one.take("k") is None
    assert other.take("another") is not None
    one.give_back(lease)
    again = other.take("k")
    one.give_back(lease)  # it has passed on: nothing to give back
    assert one.take("k") is None
    other.give_back(again)


def test_an_expired_lease_and_a_dead_owners_pass_on(books):
    one, other = map(NamedLeases, books)
    assert one.take("expired")
    assert one.take("dead")
    with books[0].transaction() as db:
        db.execute("UPDATE leases SET until = 1 WHERE name = 'expired'")
        db.execute("UPDATE leases SET pid = 4194305 WHERE name = 'dead'")
    assert other.take("expired")
    assert other.take("dead")


def test_a_budget_refuses_with_the_figures_and_waits_for_calls_in_flight(books):
    one, other = both(books)
    budget = Budget(5.0)
    first = claim(one, budget=budget, cost=3.0)
    assert 0 < claim(other, budget=budget, cost=3.0) < 0.2  # the first may turn out cheaper
    one.settle(first, 0, 1.0)
    second = claim(other, budget=budget, cost=3.0)
    other.settle(second, 0, 4.5)  # dearer than was thought
    with pytest.raises(BudgetExceededError) as refused:
        claim(one, budget=budget, cost=0.001)
    assert (
        "the budget of $5.00 for this session does not pay for this call, which may cost $0.001: $5.50 spent, $0.00 left"
        in str(refused.value)
    )
    assert "dx.configure(budget=" in refused.value.hint
    assert not refused.value.retryable


def test_a_session_budget_counts_the_session_and_a_spans_all(books, monkeypatch):
    one, other = both(books)
    monkeypatch.setenv("DSPEX_SESSION", "first")
    one.settle(claim(one, budget=Budget(9.0), cost=0.0), 0, 4.0)
    monkeypatch.setenv("DSPEX_SESSION", "second")
    assert isinstance(claim(other, budget=Budget(5.0), cost=3.0), Claim)
    with pytest.raises(BudgetExceededError, match=r"\$5.00 a day .*\$4.00 spent"):
        claim(other, budget=Budget(5.0, 86400.0), cost=3.0)


def test_a_budget_set_in_one_process_is_in_force_in_the_others_of_its_session(books, monkeypatch):
    one, other = map(Budgets, books)
    assert other.in_force() is None
    one.put(Budget(2.0, 3600.0))
    other._fresh_until = 0.0
    assert other.in_force() == Budget(2.0, 3600.0)
    monkeypatch.setenv("DSPEX_SESSION", "another kernel")
    other._fresh_until = 0.0
    assert other.in_force() is None
    monkeypatch.undo()
    one.put(None)
    other._fresh_until = 0.0
    assert other.in_force() is None


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (5, Budget(5.0)),
        ("$5", Budget(5.0)),
        ("5", Budget(5.0)),
        ("$0.50/day", Budget(0.5, 86400.0)),
        ("$ 2.5 per hour", Budget(2.5, 3600.0)),
        ("$10 a Month", Budget(10.0, 30 * 86400.0)),
    ],
)
def test_ways_to_write_a_budget(given, meant):
    assert read_budget(given) == meant


@pytest.mark.parametrize("given", ["five", "€5", "$5/year", -1, True, float("nan"), "$", object()])
def test_what_is_no_budget_is_refused(given):
    with pytest.raises(DSPexError, match="is no budget"):
        read_budget(given)


def test_the_session_is_the_processs_and_its_childrens(monkeypatch):
    monkeypatch.delenv("DSPEX_SESSION", raising=False)
    assert session_id() == session_id()
    monkeypatch.setenv("DSPEX_SESSION", "mine")
    assert session_id() == "mine"


def test_a_book_that_cannot_be_used_is_said_once(tmp_path):
    (tmp_path / "leases.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 50)
    book = Book(tmp_path / "leases.sqlite")
    account = Account(book, "a", rpm=1)
    with pytest.warns(RuntimeWarning, match="cannot be shared with other processes"), pytest.raises(sqlite3.DatabaseError):
        claim(account)
    assert not book.usable
    lease = NamedLeases(book).take("k")
    assert lease is not None
    NamedLeases(book).give_back(lease)


def test_a_book_deleted_under_us_is_made_anew(books):
    leases = NamedLeases(books[0])
    assert leases.take("k")
    for path in books[0].path.parent.glob("leases.sqlite*"):
        path.unlink()
    assert leases.take("k")


def test_the_book_is_its_owners_only_and_holds_no_secret(tmp_path):
    from dspex_nb.leases import account_of, book_at

    book = book_at(tmp_path / "leases.sqlite")
    account = account_of(book, "openai/x\0sk-very-secret", seats=None, rpm=5, tpm=None)
    assert account is account_of(book, "openai/x\0sk-very-secret", seats=None, rpm=5, tpm=None)
    assert isinstance(claim(account), Claim)
    assert book.path.stat().st_mode & 0o077 == 0
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.iterdir())
    book.close()
