"""The shared tier on a real server: what it keeps, for how long, its outages, and who pays on two machines.

Two machines are two caches with folders of their own, or two processes with homes of their own, on one server.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex_nb.cache import Cache, redis_tier
from dspex_nb.clients import connect
from dspex_nb.errors import CacheError
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope

ASKED = Request([{"role": "user", "content": "hi"}])
VALUE = {"outputs": [{"text": "Grüße"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "cost": 0.5}
SECRET = "s3cret-Ocelot"


def key(name):
    return hashlib.sha256(str(name).encode()).hexdigest()


@pytest.fixture
def machines(redis_server, tmp_path):
    made = [Cache(directory=tmp_path / name, redis_url=redis_server.url) for name in ("one", "other")]
    yield made
    for cache in made:
        cache.close()


def test_an_answer_of_one_machine_serves_the_other_and_stays_there(machines, redis_server):
    one, other = machines
    one.put(key(1), VALUE)
    hit = other.get(key(1))
    assert (hit.tier, dict(hit.value)) == ("redis", VALUE)
    assert other.get(key(1)).tier == "memory"
    redis_server.stop()
    again = Cache(directory=other.directory, redis_url=redis_server.url)
    assert again.get(key(1)).tier == "disk"  # the next kernel has it without the server
    with pytest.warns(RuntimeWarning, match="does not answer"):
        stats = other.stats()
    assert (stats.hits_redis, stats.hits_memory, stats.hits_disk, stats.misses) == (1, 1, 0, 0)
    assert stats.saved_cost == 1.0
    assert stats.redis == redis_server.where
    assert stats.redis_down


def test_what_lies_on_the_server_is_json_and_ends_there(machines, redis_server):
    machines[0].put(key(1), VALUE, ttl_s=60)
    name = f"dspex:lm:{key(1)}"
    assert json.loads(redis_server.ask("GET", name)) == {"v": 1, "key": key(1), "value": VALUE}
    assert 50_000 < redis_server.ask("PTTL", name) <= 60_000
    machines[0].put(key(2), VALUE)
    assert redis_server.ask("PTTL", f"dspex:lm:{key(2)}") == -1
    machines[0].put(key(3), VALUE, ttl_s=0.05)
    time.sleep(0.1)
    assert redis_server.ask("EXISTS", f"dspex:lm:{key(3)}") == 0


def test_no_machine_keeps_it_longer_than_the_server(machines):
    machines[0].put(key(1), VALUE, ttl_s=0.3)
    assert machines[1].get(key(1)).tier == "redis"
    time.sleep(0.35)
    assert machines[1].get(key(1)) is None


@pytest.mark.parametrize(
    "foreign", [b"", b"\x80\x04N.", b"[]", b'{"v":1}', b'{"v":9,"key":"K","value":{}}', b'{"v":1,"key":"K","value":[]}']
)
def test_what_is_not_ours_is_a_counted_miss(machines, redis_server, foreign):
    redis_server.ask("SET", f"dspex:lm:{key(1)}", foreign.replace(b"K", key(1).encode()))
    assert machines[0].get(key(1)) is None
    assert machines[0].stats().faults == 1


def test_a_server_gone_from_the_start_is_said_once_and_used_when_it_is_there(tmp_path, redis_server, monkeypatch):
    monkeypatch.setattr(redis_tier, "_FIRST_REST_S", 0.05)
    redis_server.stop()
    cache = Cache(directory=tmp_path, redis_url=redis_server.url)
    with pytest.warns(RuntimeWarning, match="does not answer") as said:
        cache.put(key(1), VALUE)
    assert SECRET not in str(said[0].message)
    assert redis_server.where in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        time.sleep(0.1)
        assert cache.get(key(1)).tier == "memory"
        assert cache.get(key("none")) is None
        assert Cache(directory=tmp_path).get(key(1)).tier == "disk"
    redis_server.start()
    until(lambda: cache.put(key(2), VALUE) or redis_server.ask("EXISTS", f"dspex:lm:{key(2)}"))
    assert not cache.stats().redis_down


def test_a_server_started_anew_is_used_at_once(machines, redis_server):
    machines[0].put(key(1), VALUE)
    redis_server.stop()
    redis_server.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the old connection broke; that alone is no outage
        machines[0].put(key(2), VALUE)
    assert machines[1].get(key(2)).tier == "redis"


def test_a_server_that_hangs_costs_one_short_wait(machines, redis_server, monkeypatch):
    monkeypatch.setattr(redis_tier, "_TIMEOUT_S", 0.2)
    machines[0].put(key(1), VALUE)
    machines[0].close()
    redis_server.hang()
    with pytest.warns(RuntimeWarning, match="does not answer"):
        machines[0].put(key(0), VALUE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(50):
            machines[0].put(key(number), VALUE)
    assert machines[0].remote.faults == 1  # the other fifty did not wait
    assert machines[0].get(key(7)).tier == "memory"
    redis_server.wake()
    machines[0].remote._rest_until = 0.0
    machines[0].put(key("back"), VALUE)
    assert machines[1].get(key("back")).tier == "redis"


def test_a_refused_password_is_said_without_it(tmp_path, redis_server):
    cache = Cache(redis_url=redis_server.url.replace(SECRET, "wrong-Password"))
    with pytest.warns(RuntimeWarning, match="AuthenticationError|WRONGPASS|invalid") as said:
        cache.get(key(1))
    assert "wrong-Password" not in str(said[0].message)


def test_the_password_is_nowhere_to_be_seen(machines, redis_server):
    cache = machines[0]
    cache.put(key(1), VALUE)
    shown = [repr(cache), repr(cache.remote), repr(cache.stats()), json.dumps(cache.dump_state()), repr(cache.remote._client)]
    assert not [text for text in shown if SECRET in text]
    assert cache.secrets()["redis_url"] == redis_server.url
    again = Cache(**cache.dump_state(), **cache.secrets())
    assert again.remote.where == cache.remote.where


@pytest.mark.parametrize("url", ["http://x", "redis://", "127.0.0.1:6379", "redis://h:port/0", 5, "redis://:s3cret-Ocelot@"])
def test_a_url_of_no_server_is_refused(url):
    with pytest.raises(CacheError) as error:
        Cache(redis_url=url)
    assert "redis://" in error.value.hint
    assert SECRET not in str(error.value)


def test_redis_is_imported_only_for_a_shared_cache():
    code = "import sys, dspex_nb.cache as c; c.Cache(); print('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    from dspex_nb.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDependencyError) as error:
        Cache(redis_url="redis://h")
    assert error.value.hint == "pip install 'dspex_nb[redis]'"


def test_clear_leaves_nothing_on_the_server_but_what_is_anothers(machines, redis_server):
    redis_server.ask("SET", "anothers", "1")
    for number in range(1200):
        machines[0].remote.dump(key(number), VALUE, None)
    machines[0].remote.dump_blob(key(0), b"x", None)
    assert machines[1].stats().redis_entries == 1200
    machines[1].clear()
    assert redis_server.ask("KEYS", "*") == [b"anothers"]


# Who pays


def test_of_two_machines_one_pays_in_threads_and_on_loops(machines, stub, client):
    other = connect("openai/stub", api_base=stub.url, api_key="sk-x", temperature=1.0)
    stub.answer = lambda body: time.sleep(0.3) or "Paris"

    def blocking(asking, cache):
        return asking.complete(ASKED, scope=Scope("r"), cache=cache)

    def on_a_loop(asking, cache):
        return asyncio.run(asking.acomplete(ASKED, scope=Scope("r"), cache=cache))

    with ThreadPoolExecutor(4) as threads:
        futures = [
            threads.submit(ask, asking, cache)
            for ask in (blocking, on_a_loop)
            for asking, cache in zip((client, other), machines, strict=True)
        ]
        answers = [future.result() for future in futures]
    assert {answer.text for answer in answers} == {"Paris"}
    assert sum(answer.cached is None for answer in answers) == 1
    assert len(stub.bodies) == 1


MACHINE = """
import sys
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.messages import Request
from dspex_nb.scopes import Scope
from dspex_nb.ambient import home
client = connect("openai/stub", api_base=sys.argv[1], api_key="sk-x", temperature=1.0)
cache = Cache(directory=home() / "cache", redis_url=sys.argv[2])
print(client.complete(Request([{"role": "user", "content": "hi"}]), scope=Scope("r"), cache=cache).cached)
"""


def test_a_machine_that_dies_while_it_pays_is_followed_by_the_other(redis_server, stub, tmp_path, monkeypatch):
    import threading

    opened = threading.Event()
    stub.answer = lambda body: opened.wait(60) and "Paris"
    monkeypatch.setattr(redis_tier, "LEASE_S", 15.0)

    def machine(name):
        environment = {**os.environ, "DSPEX_HOME": str(tmp_path / name)}
        words = [sys.executable, "-c", MACHINE, stub.url, redis_server.url]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)

    first = machine("first")
    second = None
    try:
        until(lambda: len(stub.bodies) == 1)
        second = machine("second")
        lease = redis_server.ask("KEYS", "dspex:lease:*")[0]
        assert 0 < redis_server.ask("PTTL", lease) <= 15_000
        first.kill()
        redis_server.ask("PEXPIRE", lease, 300)  # as if it had not been renewed for a while
        until(lambda: len(stub.bodies) == 2)
        opened.set()
        assert second.communicate(timeout=60)[0].strip() == "None"
    finally:
        opened.set()
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()
            process.stdout.close()
    assert redis_server.ask("KEYS", "dspex:lease:*") == []


def test_a_lease_is_renewed_and_given_back_by_its_holder_alone(machines, redis_server):
    one, other = (cache.remote for cache in machines)
    lease = one.take("k")
    assert other.take("k") is None
    redis_server.ask("PEXPIRE", "dspex:lease:k", 500)
    one._renew()
    assert redis_server.ask("PTTL", "dspex:lease:k") > 10_000
    redis_server.ask("DEL", "dspex:lease:k")
    passed_on = other.take("k")
    one.give_back(lease)
    one._renew()
    assert one.take("k") is None
    other.give_back(passed_on)
    assert redis_server.ask("EXISTS", "dspex:lease:k") == 0


def test_with_the_server_gone_the_local_lease_still_holds(machines, redis_server):
    redis_server.stop()
    asking, beside = machines[0].asking(key(1)), Cache(directory=machines[0].directory).asking(key(1))
    with pytest.warns(RuntimeWarning, match="does not answer"):
        assert asking.begin()
    assert not beside.begin()
    asking.end()
    assert beside.begin()
    beside.end()


def test_a_turn_that_comes_after_its_asker_left_is_given_back(machines, redis_server):
    asking = machines[0].asking(key(1))
    asking.end()
    assert not asking.begin()
    assert redis_server.ask("KEYS", "dspex:lease:*") == []
    other = machines[1].asking(key(1))
    assert other.begin()
    other.end()


def test_a_cancelled_task_leaves_no_lease(machines, stub, client, redis_server):
    async def work():
        task = asyncio.create_task(client.acomplete(ASKED, scope=Scope("r"), cache=machines[0]))
        await asyncio.to_thread(until, lambda: stub.bodies)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stub.answer = lambda body: time.sleep(0.3) or "late"
    asyncio.run(work())
    until(lambda: redis_server.ask("KEYS", "dspex:lease:*") == [])
    stub.answer = lambda body: "Paris"
    assert client.complete(ASKED, scope=Scope("r"), cache=machines[1]).text == "Paris"


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
