"""A budget as a user sets it, and the money that the kernel's workers spend."""

from __future__ import annotations

import pytest

import dspex_nb as dx
from dspex_nb.errors import BudgetExceededError, DSPexError, LMNotConfiguredError

DOLLAR_A_CALL = {"input": 0.0, "output": 500_000.0}  # the server's answers have two tokens


@pytest.fixture
def lm(fresh, model_server):
    server = model_server(lambda body: "Paris")
    made = dx.LM("openai/m", api_base=server.url, api_key="sk-x", max_tokens=2, price=DOLLAR_A_CALL)
    made.server = server
    yield made
    dx.configure(budget=None)


def test_calls_beyond_the_budget_are_refused_and_not_sent(lm):
    dx.configure(lm=lm, budget="$2")
    lm("one")
    lm("two")
    assert lm("one").cached  # what is kept costs nothing
    with pytest.raises(BudgetExceededError, match=r"budget of \$2.00 for this session .*\$2.00 spent, \$0.00 left") as refused:
        dx.Predict("question -> answer")(question="three")
    assert "dx.configure(budget=" in refused.value.hint
    assert len(lm.server.bodies) == 2
    assert dx.session().budget.spent == 2.0
    text = dx.status().text
    assert "$2.00 of $2.00 for this session spent" in text
    assert "$2.00 paid, $1.00 saved by the cache" in text
    dx.configure(budget="$3")  # a cell run again, with a larger number: what was spent stays spent
    lm("three")
    with pytest.raises(BudgetExceededError):
        lm("four")
    dx.configure(budget=None)
    lm("four")
    assert dx.session().budget is None


def test_a_stream_and_a_loop_keep_to_it_too(lm):
    import asyncio

    async def read():
        return [piece async for piece in lm.astream("one", cache=False)]

    dx.configure(lm=lm, budget=1)
    asyncio.run(lm.acall("zero"))
    with pytest.raises(BudgetExceededError):
        asyncio.run(lm.acall("one"))
    with pytest.raises(BudgetExceededError):
        asyncio.run(read())


def test_a_stream_is_paid_for_also_where_its_reader_leaves(fresh, lm, monkeypatch):
    """The server is told to stream by a wire of our own: what counts is what the client makes of it."""
    chunks = [
        {"choices": [{"delta": {"content": "Pa"}}]},
        {"choices": [{"delta": {"content": "ris"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}},
    ]
    monkeypatch.setattr(lm.client._wire, "stream", lambda body, **_: iter(chunks))
    dx.configure(lm=lm, budget="$9")
    from dspex_nb.messages import Request
    from dspex_nb.scopes import Scope

    def pieces(text):
        return lm.client.stream(Request([{"role": "user", "content": text}], {"max_tokens": 4}), scope=Scope("r"))

    assert "".join(pieces("one")) == "Paris"
    assert dx.session().budget.spent == 0.5
    leaving = pieces("two")
    assert next(leaving) == "Pa"
    assert dx.session().budget.reserved == 2.0
    leaving.close()
    assert (dx.session().budget.spent, dx.session().budget.reserved) == (2.5, 0.0)


def test_a_model_of_unknown_price_cannot_keep_to_a_budget(lm):
    unknown = dx.LM("openai/m", api_base=lm.server.url, api_key="sk-x")
    dx.configure(budget=1)
    with pytest.raises(LMNotConfiguredError, match="price of openai/m is unknown") as refused:
        unknown("one")
    assert "price=" in refused.value.hint
    assert not lm.server.bodies


def test_what_is_no_budget_or_in_no_place_for_one_is_refused(fresh):
    with pytest.raises(DSPexError, match="is no budget"):
        dx.configure(budget="lots")
    with pytest.raises(DSPexError, match="not for a block"), dx.context(budget=1):
        pass


def test_workers_share_the_budget_and_the_ledger_tells_what_they_spent(lm):
    def asks(question):
        import dspex_nb as dx
        from dspex_nb.errors import BudgetExceededError

        try:
            return dx.Predict("question -> answer", adapter="chat")(question=question).answer
        except BudgetExceededError:
            return "refused"

    lm.server.answer = lambda body: "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
    dx.configure(lm=lm, budget="$2")
    pool = dx.pool("apart", 2, "loky")
    said = list(pool.map(asks, ["one", "two", "three", "four"]))
    assert sorted(said) == ["Paris", "Paris", "refused", "refused"]
    ledger = dx.session().ledger
    assert (ledger.calls, ledger.cost, ledger.unknown) == (2, 2.0, 0)
    assert len(lm.server.bodies) == 2
    with pytest.raises(BudgetExceededError):
        lm("five")


def test_the_ledger_keeps_paid_saved_and_unknown_apart(lm):
    unknown = dx.LM("openai/other", api_base=lm.server.url, api_key="sk-x")
    for asked in (lm, lm, unknown, unknown):
        asked("one")
    ledger = dx.session().ledger
    assert (ledger.calls, ledger.cost, ledger.unknown) == (2, 1.0, 1)
    assert (ledger.cache_hits, ledger.saved, ledger.unpriced_hits) == (2, 1.0, 1)
    assert "$1.00 paid, $1.00 saved by the cache, 1 call of unknown price, 1 hit of unknown price" in dx.status().text
