"""Identical requests in flight at the same time are sent once, on a real HTTP server that counts them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.errors import Cancelled, LMError
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

ASKED = Request([{"role": "user", "content": "hi"}])


@pytest.fixture
def gate(stub):
    """The server answers when it is opened."""
    opened, numbers = threading.Event(), iter(range(1000))

    def answer(body):
        number = next(numbers)
        opened.wait(60)
        return str(number)

    stub.answer = answer
    yield opened
    opened.set()


def until(condition):
    deadline = time.monotonic() + 60  # a loaded machine starts a process in seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def followers(client):
    """How many wait for flights under way."""
    return sum(len(flight.outcome._done_callbacks) for flight in client._flights._flying.values())


def on_threads(client, cache, requests, scopes=None):
    pool = ThreadPoolExecutor(len(requests))
    scopes = scopes or [Scope("r")] * len(requests)
    pairs = zip(requests, scopes, strict=True)
    return [pool.submit(client.complete, request, scope=scope, cache=cache) for request, scope in pairs]


async def on_tasks(client, cache, requests):
    return await asyncio.gather(*(client.acomplete(request, scope=Scope("r"), cache=cache) for request in requests))


def told(responses):
    return sorted(response.cached or "sent" for response in responses), {response.text for response in responses}


def test_threads_share_one_request(stub, client, gate):
    waiting = on_threads(client, Cache(), [ASKED] * 8)
    until(lambda: followers(client) == 7)
    gate.set()
    assert told([future.result() for future in waiting]) == (["flight"] * 7 + ["sent"], {"0"})
    assert len(stub.bodies) == 1


def test_tasks_on_one_loop_share_one_request(stub, client):
    assert told(asyncio.run(on_tasks(client, Cache(), [ASKED] * 20))) == (["flight"] * 19 + ["sent"], {"0"})
    assert len(stub.bodies) == 1


@pytest.mark.parametrize("first", ["threads", "tasks"])
def test_threads_and_the_tasks_of_two_loops_share_one_request(stub, client, gate, first):
    cache, found = Cache(), []
    loops = [threading.Thread(target=lambda: found.extend(asyncio.run(on_tasks(client, cache, [ASKED] * 4)))) for _ in range(2)]
    starts = [loop.start for loop in loops]
    starts.insert(0 if first == "threads" else 2, lambda: waiting.extend(on_threads(client, cache, [ASKED] * 4)))
    waiting = []
    for start in starts:
        start()
        until(lambda: len(stub.bodies) == 1)
    until(lambda: followers(client) == 11)
    gate.set()
    for loop in loops:
        loop.join(10)
    assert told([*found, *(future.result() for future in waiting)]) == (["flight"] * 11 + ["sent"], {"0"})
    assert len(stub.bodies) == 1


def test_different_rollouts_candidates_and_options_never_share(stub, client, gate):
    different = [
        *(replace(ASKED, rollout=number) for number in (None, 0, 1, 2)),
        *(replace(ASKED, candidate=number) for number in (1, 2)),
        replace(ASKED, rollout=1, candidate=1),
        replace(ASKED, options={"temperature": 0.5}),
    ]
    cache = Cache()
    waiting = on_threads(client, cache, different)
    until(lambda: len(stub.bodies) == len(different))
    gate.set()
    texts = [future.result().text for future in waiting]
    assert len(set(texts)) == len(different)
    assert [response.text for response in asyncio.run(on_tasks(client, cache, different))] == texts
    assert len(stub.bodies) == len(different)


def test_without_a_cache_every_call_is_sent(stub, client):
    asyncio.run(on_tasks(client, None, [ASKED] * 5))
    asyncio.run(on_tasks(client, Cache(), [replace(ASKED, options={"cache": False})] * 5))
    assert len(stub.bodies) == 10


def test_a_leader_that_is_stopped_hands_over(stub, client, gate):
    leader = Scope("leader")
    led = on_threads(client, cache := Cache(), [ASKED], [leader])
    until(lambda: len(stub.bodies) == 1)
    waiting = on_threads(client, cache, [ASKED] * 5)
    until(lambda: followers(client) == 5)
    leader.cancel.cancel()
    with pytest.raises(Cancelled):
        led[0].result(5)
    until(lambda: len(stub.bodies) == 2)
    gate.set()
    assert told([future.result(5) for future in waiting]) == (["flight"] * 4 + ["sent"], {"1"})
    assert len(stub.bodies) == 2


def test_a_leading_task_that_is_cancelled_hands_over(stub, client, gate):
    async def work():
        cache = Cache()
        leader = asyncio.create_task(client.acomplete(ASKED, scope=Scope("r"), cache=cache))
        await asyncio.to_thread(until, lambda: len(stub.bodies) == 1)
        rest = asyncio.create_task(on_tasks(client, cache, [ASKED] * 5))
        threads = on_threads(client, cache, [ASKED] * 2)
        await asyncio.to_thread(until, lambda: followers(client) == 7)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        await asyncio.to_thread(until, lambda: len(stub.bodies) == 2)
        gate.set()
        return [*await rest, *[await asyncio.wrap_future(future) for future in threads]]

    cached, texts = told(asyncio.run(work()))
    assert (cached.count("sent"), texts) == (1, {"1"})
    assert len(stub.bodies) == 2


def test_a_follower_that_is_stopped_leaves_the_others_alone(stub, client, gate):
    led = on_threads(client, cache := Cache(), [ASKED])
    until(lambda: len(stub.bodies) == 1)
    scopes = [Scope(str(number)) for number in range(4)]
    waiting = on_threads(client, cache, [ASKED] * 4, scopes)
    until(lambda: followers(client) == 4)
    scopes[0].cancel.cancel()
    with pytest.raises(Cancelled):
        waiting[0].result(5)
    gate.set()
    assert told([future.result(5) for future in [*led, *waiting[1:]]]) == (["flight"] * 3 + ["sent"], {"0"})
    assert len(stub.bodies) == 1


def test_what_the_model_refuses_is_refused_for_all_and_not_kept(stub, client, gate):
    answer = stub.answer
    stub.answer = lambda body: [answer(body)] and {"not": "text"}["text"]  # the handler fails: the connection breaks
    cache = Cache()
    waiting = on_threads(client, cache, [ASKED] * 6)
    until(lambda: followers(client) == 5)
    gate.set()
    assert all(isinstance(future.exception(5), LMError) for future in waiting)
    assert len(stub.bodies) == 1
    stub.answer = answer
    assert client.complete(ASKED, scope=Scope("r"), cache=cache).cached is None


def test_a_blocking_call_on_the_loop_that_leads_does_not_hang(stub, client):
    async def work():
        cache = Cache()
        task = asyncio.create_task(client.acomplete(ASKED, scope=Scope("r"), cache=cache))
        await asyncio.sleep(0)  # it leads now, and needs this loop
        alone = client.complete(ASKED, scope=Scope("r"), cache=cache)
        return alone, await task

    alone, led = asyncio.run(asyncio.wait_for(work(), 10))
    assert alone.cached is None
    assert led.text
    assert len(stub.bodies) <= 2


def test_many_waves_of_threads_and_tasks_pay_each_request_once(stub, client):
    """No gate: calls join, lead and land in every order."""
    cache = Cache()
    requests = [Request([{"role": "user", "content": str(number % 12)}], rollout=number % 2) for number in range(144)]
    loop = threading.Thread(target=lambda: asyncio.run(on_tasks(client, cache, requests)))
    loop.start()
    waiting = on_threads(client, cache, requests[:48])
    texts = {}
    for request, future in zip(requests, waiting, strict=False):
        texts.setdefault(request.messages[0]["content"] + str(request.rollout), set()).add(future.result(10).text)
    loop.join(10)
    assert all(len(found) == 1 for found in texts.values())
    assert len(stub.bodies) == 12  # of 12 questions half are asked in rollout 0, half in 1


OTHER = """
import sys
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope
client = connect("openai/stub", api_base=sys.argv[1], api_key="sk-x", temperature=1.0)
print(client.complete(Request([{"role": "user", "content": "hi"}]), scope=Scope("r"), cache=Cache(directory=sys.argv[2])).cached)
"""


def test_of_three_processes_one_pays_and_all_have_the_answer(stub, tmp_path, gate):
    """A lease in the cache's folder joins processes while a request is under way; the disk joins them afterwards."""
    code = [sys.executable, "-c", OTHER, stub.url, str(tmp_path)]
    together = [subprocess.Popen(code, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    until(lambda: len(stub.bodies) == 1)
    gate.set()
    said = [process.communicate(timeout=60)[0].strip() for process in together]
    assert sorted(said) == ["None", "disk", "disk"]
    client = connect("openai/stub", api_base=stub.url, api_key="other", temperature=1.0)
    assert client.complete(ASKED, scope=Scope("r"), cache=Cache(directory=tmp_path)).cached == "disk"
    assert len(stub.bodies) == 1


@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_a_payer_killed_is_found_dead_and_the_waiting_one_pays(stub, client, tmp_path, gate, way):
    code = [sys.executable, "-c", OTHER, stub.url, str(tmp_path)]
    payer = subprocess.Popen(code, stdout=subprocess.DEVNULL)
    try:
        until(lambda: len(stub.bodies) == 1)
        cache = Cache(directory=tmp_path)
        if way == "threads":
            waiting = on_threads(client, cache, [ASKED])[0]
        else:
            waiting = ThreadPoolExecutor(1).submit(lambda: asyncio.run(on_tasks(client, cache, [ASKED]))[0])
        time.sleep(0.2)
        assert len(stub.bodies) == 1
    finally:
        payer.kill()
        payer.wait()
    until(lambda: len(stub.bodies) == 2)
    gate.set()
    assert waiting.result(10).cached is None


def test_one_who_waits_for_another_process_can_be_stopped(stub, client, tmp_path, gate):
    code = [sys.executable, "-c", OTHER, stub.url, str(tmp_path)]
    payer = subprocess.Popen(code, stdout=subprocess.DEVNULL)
    try:
        until(lambda: len(stub.bodies) == 1)
        scope = Scope("r")
        waiting = on_threads(client, Cache(directory=tmp_path), [ASKED], [scope])[0]
        time.sleep(0.1)
        scope.cancel.cancel()
        with pytest.raises(Cancelled):
            waiting.result(2)
    finally:
        payer.kill()
        payer.wait()
    assert len(stub.bodies) == 1
