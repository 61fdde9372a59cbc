"""A `dx.LM` called by itself, before anything is configured, is still cached and recorded."""

import asyncio

import dspex_nb as dx
from dspex_nb.testing import ScriptedLM


def bare():
    lm = dx.LM("openai/m", api_base="http://127.0.0.1:9/v1", api_key="none")
    lm.client = ScriptedLM(["once"])
    return lm


def test_the_second_call_comes_from_the_cache_and_both_are_counted(fresh):
    lm = bare()
    first, second = lm("hello"), lm("hello")
    assert (first.text, first.cached) == ("once", None)
    assert (second.text, second.cached) == ("once", "memory")
    assert len(lm.client.requests) == 1
    assert (dx.session().ledger.calls, dx.session().ledger.cache_hits) == (1, 1)


def test_a_stream_is_served_from_the_cache_too(fresh):
    lm = bare()
    lm("hello")

    async def read():
        return [piece async for piece in lm.astream("hello")]

    assert "".join(asyncio.run(read())) == "once"
    assert len(lm.client.requests) == 1
