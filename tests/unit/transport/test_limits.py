from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex_nb.errors import Cancelled
from dspex_nb.scopes import CancelToken
from dspex_nb.transport import Limiter, limits, redact


def test_threads_and_tasks_share_the_slots():
    limiter, lock = Limiter(3), threading.Lock()
    inside, most = 0, 0

    def enter(step):
        nonlocal inside, most
        with lock:
            inside += step
            most = max(most, inside)

    def call(_):
        with limiter.slot(CancelToken()):
            enter(1)
            time.sleep(0.005)
            enter(-1)

    async def acall():
        async with limiter.slot(CancelToken()):
            enter(1)
            await asyncio.sleep(0.005)
            enter(-1)

    async def many():
        await asyncio.gather(*(acall() for _ in range(20)))

    with ThreadPoolExecutor(8) as threads:
        work = [threads.submit(asyncio.run, many()), *(threads.submit(call, i) for i in range(20))]
        for one in work:
            one.result()
    assert (most, inside, limiter._free) == (3, 0, 3)


def test_a_stopped_waiter_leaves_the_queue():
    limiter, cancel = Limiter(1), CancelToken()
    with limiter.slot(CancelToken()):
        threading.Timer(0.05, cancel.cancel).start()
        with pytest.raises(Cancelled), limiter.slot(cancel):
            pass
    with limiter.slot(CancelToken()):
        assert not limiter._waiting


def test_rpm_spreads_the_starts(monkeypatch):
    monkeypatch.setattr(limits, "WINDOW_S", 0.2)
    limiter, starts = Limiter(8, rpm=2), []
    for _ in range(5):
        with limiter.slot(CancelToken()):
            starts.append(time.monotonic())
    assert all(later - first >= 0.19 for first, later in zip(starts, starts[2:], strict=False))


def test_tpm_waits_for_the_tokens_of_before(monkeypatch):
    monkeypatch.setattr(limits, "WINDOW_S", 0.2)
    limiter, started = Limiter(8, tpm=100), time.monotonic()
    for tokens in (60, 40, 500):  # the last is larger than any minute, and goes alone
        with limiter.slot(CancelToken(), tokens):
            pass
    assert 0.19 <= time.monotonic() - started < 1


def test_a_pause_holds_everybody():
    limiter = Limiter(4)
    limiter.pause(0.1)
    started = time.monotonic()
    with limiter.slot(CancelToken()):
        assert time.monotonic() - started >= 0.09


def test_redaction():
    text = redact("key sk-abcdefghijkl and Bearer xyz.123, also hunter2hunter2\n<b>", ["hunter2hunter2"])
    assert text == "key *** and Bearer ***, also *** <b>"
    assert len(redact("x" * 1000)) == 300


def test_tokens_set_aside_are_replaced_by_those_used(monkeypatch):
    monkeypatch.setattr(limits, "WINDOW_S", 30.0)
    monkeypatch.setattr(limits, "RECHECK_S", 0.02)
    limiter = Limiter(8, tpm=1000)
    began = time.monotonic()
    with limiter.slot(CancelToken(), 900) as start:
        waiting = threading.Thread(target=lambda: limiter.slot(CancelToken(), 500).__enter__())
        waiting.start()
        time.sleep(0.1)
        assert waiting.is_alive()  # 900 of 1000 are set aside
        start.tokens = 30
    waiting.join(2)
    assert not waiting.is_alive()
    assert time.monotonic() - began < 2
    assert [start.tokens for start in limiter._starts] == [30, 500]
    stopped = CancelToken()
    threading.Timer(0.1, stopped.cancel).start()
    with pytest.raises(Cancelled), limiter.slot(stopped, 471):  # 470 are left, and the minute is young
        pass
    with limiter.slot(CancelToken(), 470):
        pass


def test_a_slot_without_rates_counts_nothing():
    limiter = Limiter(2)
    with limiter.slot(CancelToken(), 5) as start:
        assert start is None
    assert not limiter._starts


def test_limits_are_shared_by_key_and_let_go():
    one, same = (limits.limiter_of(("k",), 4, 60, None) for _ in range(2))
    assert one is same
    assert limits.limiter_of(("k",), 4, 30, None) is not one
    assert limits.limiter_of(("j",), 4, 60, None) is not one
    del one, same
    assert not [key for key in limits._limiters if key[0] in {"k", "j"}]
