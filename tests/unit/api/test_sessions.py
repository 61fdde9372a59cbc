"""`configure`, `context` and `session`."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import dspex_nb as dx
from dspex_nb.errors import DSPexError, LMNotConfiguredError
from dspex_nb.testing import ScriptedLM

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_session_brings_a_cache_and_a_store_under_its_home(fresh):
    now = dx.session()
    assert now.store.path == fresh / "runs.sqlite"
    assert str(fresh / "cache") in repr(now.cache)
    assert dx.session() is now


def test_it_opens_once_from_many_threads():
    with ThreadPoolExecutor(8) as threads:
        assert len({id(now.store) for now in threads.map(lambda _: dx.session(), range(32))}) == 1


def test_configure_changes_what_is_named_and_keeps_the_rest():
    lm = ScriptedLM()
    dx.configure(lm=lm, n_jobs=3)
    now = dx.configure(adapter="json")
    assert (now.lm, now.adapter, now.n_jobs) == (lm, "json", 3)
    assert dx.session() is now
    assert dx.configure(lm=None).lm is None


def test_a_model_string_is_an_lm():
    assert dx.configure(lm="openai/m").lm.model == "openai/m"


def test_the_cache_can_be_left_out_and_brought_back():
    lm = ScriptedLM(lambda request: '{"b": "x"}')
    assert dx.configure(lm=lm, adapter="json", cache=False).cache is None
    predict = dx.Predict("a -> b")
    predict(a="1")
    predict(a="1")
    assert len(lm.requests) == 2
    assert dx.configure(cache=True).cache is not None
    predict(a="1")
    assert predict(a="1").cached == "memory"
    own = dx.Cache(memory_entries=4)
    assert dx.configure(cache=own).cache is own


def test_configure_reaches_other_threads_and_context_does_not():
    one, other = ScriptedLM(model="scripted/one"), ScriptedLM(model="scripted/other")
    dx.configure(lm=one)
    seen = []
    with dx.context(lm=other) as inner:
        assert inner.lm is other is dx.session().lm
        thread = threading.Thread(target=lambda: seen.append(dx.session().lm))
        thread.start()
        thread.join()
    assert seen == [one]
    assert dx.session().lm is one


def test_contexts_nest_and_end_with_an_error():
    lms = [ScriptedLM(model=f"scripted/{n}") for n in range(3)]
    dx.configure(lm=lms[0])
    with dx.context(lm=lms[1]):
        with contextlib.suppress(ZeroDivisionError), dx.context(lm=lms[2], n_jobs=2):
            assert (dx.session().lm, dx.session().n_jobs) == (lms[2], 2)
            1 / 0
        assert (dx.session().lm, dx.session().n_jobs) == (lms[1], None)
    assert dx.session().lm is lms[0]


def test_tasks_have_their_own():
    async def ask(name):
        with dx.context(lm=ScriptedLM(model=f"scripted/{name}")):
            await asyncio.sleep(0.01)
            return dx.session().lm.model

    async def all_of_them():
        return await asyncio.gather(*(ask(n) for n in range(5)))

    assert asyncio.run(all_of_them()) == [f"scripted/{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"llm": None}, DSPexError, "did you mean 'lm'"),
        ({"lm": 3}, LMNotConfiguredError, "expected a dx.LM"),
        ({"cache": "x"}, DSPexError, "a dx.Cache"),
        ({"n_jobs": 0}, DSPexError, "-1"),
        ({"n_jobs": "4"}, DSPexError, "n_jobs='4'"),
    ],
)
def test_settings_that_cannot_be(settings, error, told):
    before = dx.session()
    with pytest.raises(error) as raised:
        dx.configure(**settings)
    assert told in str(raised.value)
    with pytest.raises(error), dx.context(**settings):
        pass
    assert dx.session() is before


def test_pools_are_the_sessions():
    made = dx.pool("words", 2)
    assert dx.pool("words") is made
    assert made.submit(len, "abc").result(5) == 3
    with pytest.raises(DSPexError) as raised:
        dx.pool("wrds")
    assert "words" in str(raised.value)
    with pytest.raises(DSPexError, match="threads share"):
        dx.pool("big", 1, memory_bytes=1)
