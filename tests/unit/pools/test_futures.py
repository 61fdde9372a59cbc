"""A pool's future against those who wait for it: nobody is left waiting, nobody is told twice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, as_completed, wait

import pytest

from dspex_nb.pools import PoolFuture, futures

_WAIT_S = 5.0


def _by_result(future: PoolFuture) -> object:
    return future.result(_WAIT_S)


def _by_exception(future: PoolFuture) -> object:
    assert future.exception(_WAIT_S) is None
    return future.value


def _by_wait(future: PoolFuture) -> object:
    other = PoolFuture()
    assert wait([future, other], _WAIT_S, FIRST_COMPLETED).done == {future}
    return future.value


def _by_waiting_for_all(future: PoolFuture) -> object:
    over = PoolFuture()
    over.resolve(None)
    assert not wait([over, future], _WAIT_S).not_done
    return future.value


def _by_completion(future: PoolFuture) -> object:
    return next(as_completed([future], _WAIT_S)).value


def _by_callback(future: PoolFuture) -> object:
    told: list[object] = []
    heard = threading.Event()

    def hear(over: object) -> None:
        told.append(over)
        heard.set()

    future.add_done_callback(hear)
    assert heard.wait(_WAIT_S)
    assert told == [future]
    return future.value


def _by_awaiting(future: PoolFuture) -> object:
    async def value() -> object:
        return await asyncio.wait_for(asyncio.wrap_future(future), _WAIT_S)

    return asyncio.run(value())


_WAYS = [_by_result, _by_exception, _by_wait, _by_waiting_for_all, _by_completion, _by_callback, _by_awaiting]


@pytest.mark.parametrize("way", _WAYS)
def test_who_waits_as_it_is_resolved_is_told_once(way, stumbling):
    for round_ in range(40 if way is _by_awaiting else 300):
        future, start = PoolFuture(), threading.Barrier(2)

        def resolve(future: PoolFuture = future, start: threading.Barrier = start, round_: int = round_) -> None:
            start.wait()
            stumbling(futures, lambda: future.resolve(round_))

        thread = threading.Thread(target=resolve)
        thread.start()
        start.wait()
        late = time.monotonic() + _WAIT_S  # a wait that nobody ended looks once more at its end, and finds the value
        assert stumbling(futures, lambda future=future: way(future)) == round_
        assert time.monotonic() < late
        thread.join()


@pytest.mark.parametrize("way", _WAYS)
def test_who_comes_after_it_finds_the_value(way: Callable[[PoolFuture], object]) -> None:
    future = PoolFuture()
    assert not future.done()
    assert future.resolve("value")
    assert way(future) == "value"


def test_of_many_ends_at_once_one_holds_and_each_listener_hears_it_once(stumbling):
    for round_ in range(300):
        future, start = PoolFuture(), threading.Barrier(5)
        heard: list[str] = []
        if round_ % 2:  # then somebody has made the condition before
            future.add_done_callback(lambda _, heard=heard: heard.append("before"))
        else:
            future.tell(lambda _, heard=heard: heard.append("before"))
        acts = {
            "value": lambda future=future: future.resolve(1),
            "error": lambda future=future: future.fail(ValueError("no")),
            "cancelled": lambda future=future: future.cancel(),
            "other": lambda future=future: future.resolve(2),
        }
        won: list[str] = []

        def act(name: str, start: threading.Barrier = start, won: list[str] = won, acts: dict = acts) -> None:
            start.wait()
            if stumbling(futures, acts[name]):
                won.append(name)

        threads = [threading.Thread(target=act, args=(name,)) for name in acts]
        for thread in threads:
            thread.start()
        start.wait()
        stumbling(futures, lambda future=future, heard=heard: future.add_done_callback(lambda _: heard.append("amid")))
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert sorted(heard) == ["amid", "before"]
        assert future.done()
        assert future.cancelled() is (won == ["cancelled"])
        assert future.succeeded is (won[0] in ("value", "other"))
        if future.cancelled():
            with pytest.raises(CancelledError):
                future.result(0)
        elif won == ["error"]:
            assert str(future.exception(0)) == "no"
        else:
            assert future.result(0) == {"value": 1, "other": 2}[won[0]]


def test_one_that_is_over_without_a_listener_makes_no_condition() -> None:
    future = PoolFuture()
    future.tell(lambda _: None)
    future.resolve(1)
    assert (future.result(), future.done(), future.cancelled(), future.running()) == (1, True, False, False)
    assert future._made is None  # what this saves is why the class is as it is
    assert "returned int" in repr(future)
