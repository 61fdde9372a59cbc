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
        async with limiter.aslot(CancelToken()):
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
