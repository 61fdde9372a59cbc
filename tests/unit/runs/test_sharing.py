"""Results of pure steps on a shared server: two machines are two step caches with folders of their own."""

from __future__ import annotations

import warnings

import pytest

from dspex_nb.ambient import Session
from dspex_nb.cache import Cache
from dspex_nb.cache.signing import SignatureError, SigningKey, find_key
from dspex_nb.errors import CacheError
from dspex_nb.events import Bus
from dspex_nb.pipelines import read_cell
from dspex_nb.routing import plan
from dspex_nb.runs import sharing
from dspex_nb.runs.scheduler import execute
from dspex_nb.runs.step_cache import StepCache
from dspex_nb.scopes import Scope

KEY = "a key of more than sixteen characters"
calls = []


def table(n):
    import numpy as np

    return {"array": np.arange(n), "text": "Grüße"}


@pytest.fixture
def machine(redis_server, tmp_path):
    calls.clear()
    sharing._refused.clear()

    def make(name, key=KEY, **options):
        cache = Cache(redis_url=redis_server.url, signing_key=key, **options)
        return Session(cache=cache, steps=StepCache(tmp_path / name))

    return make


def run(session, n=3, body="n: int\na = native(f, n=n, cache=True)"):
    spec = read_cell("p", body, {"f": table})
    scope = Scope("run", Bus(keep=100))
    done = execute(spec, plan(spec, session), {"n": n}, session=session, scope=scope)
    calls.extend(n for event in scope.bus.recent if event.kind == "step_ended" and event.status == "done")
    assert list(done.outputs["a"]["array"]) == list(range(n))
    return done


def blobs(server):
    return {name: server.ask("GET", name) for name in server.ask("KEYS", "dspex:step:*")}


def test_a_result_of_one_machine_serves_the_other_and_stays_there(machine, redis_server):
    run(machine("one"))
    other = machine("other")
    run(other)
    assert calls == [3]
    assert other.steps.hits == 1
    redis_server.stop()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(machine("other"))  # from its own folder
    assert calls == [3]


@pytest.mark.parametrize("harm", ["another key", "changed", "another step's", "unsigned", "pickled", "empty"])
def test_what_this_key_has_not_signed_is_refused_unread_and_said_once(machine, redis_server, harm, monkeypatch):
    run(machine("one"))
    run(machine("one"), n=4)
    first, second = sorted(blobs(redis_server))
    good = blobs(redis_server)
    bad = {
        "another key": lambda name, blob: SigningKey("somebody else's signing key").sign(name.decode()[11:], blob[45:]),
        "changed": lambda name, blob: blob[:-1] + b"x",
        "another step's": lambda name, blob: good[second if name == first else first],
        "unsigned": lambda name, blob: blob[45:],
        "pickled": lambda name, blob: b"cos\nsystem\n(S'touch /tmp/never'\ntR.",
        "empty": lambda name, blob: b"",
    }[harm]
    for name, blob in good.items():
        redis_server.ask("SET", name, bad(name, blob))
    monkeypatch.setattr(sharing, "unpack_item", lambda *_: pytest.fail("it was looked at"))
    other = machine("other")
    with pytest.warns(RuntimeWarning, match="not signed with this signing key") as said:
        run(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(other, n=4)
    assert KEY not in str(said[0].message)
    assert calls == [3, 4, 3, 4]


def test_without_a_key_no_step_is_shared_and_answers_are(machine, redis_server, fresh):
    session = machine("one", key=None)
    run(session)
    assert not blobs(redis_server)
    session.cache.put("ab" * 32, {"outputs": []})
    assert redis_server.ask("KEYS", "*") == [f"dspex:lm:{'ab' * 32}".encode()]


def test_the_server_ends_a_result_after_its_time(machine, redis_server):
    run(machine("one", ttl_s=50.0))
    run(machine("one"), body="n: int\na = native(f, n=n, cache=True, ttl='1h')", n=5)
    left = sorted(redis_server.ask("PTTL", name) for name in blobs(redis_server))
    assert 0 < left[0] <= 50_000
    assert 3_500_000 < left[1] <= 3_600_000


def test_a_key_comes_from_the_environment_or_a_file_that_others_cannot_read(tmp_path, monkeypatch):
    monkeypatch.delenv("DSPEX_SIGNING_KEY", raising=False)
    assert find_key(tmp_path) is None
    path = tmp_path / "signing.key"
    path.write_text(KEY + "\n")
    path.chmod(0o644)
    with pytest.raises(CacheError, match="can be read by others") as refused:
        find_key(tmp_path)
    assert "chmod 600" in refused.value.hint
    path.chmod(0o600)
    signed = find_key(tmp_path).sign("name", b"content")
    assert SigningKey(KEY).checked("name", signed) == b"content"
    monkeypatch.setenv("DSPEX_SIGNING_KEY", "another key of some length")
    with pytest.raises(SignatureError):
        find_key(tmp_path).checked("name", signed)
    with pytest.raises(CacheError, match="at least 16 characters"):
        SigningKey("short")


def test_a_key_is_shown_nowhere():
    import pickle

    key = SigningKey(KEY)
    assert KEY not in repr(key) + repr(Cache(signing_key=None))
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("harm", [b"", b"[]\n", b"[1]\n", b'[["value.json",5]]\n{}', b"not json\n", b'[["a",0]]\n', b"\xff\n"])
def test_bytes_that_are_no_whole_item_are_refused(tmp_path, harm):
    from dspex_nb.runs.keeping import unpack_item

    with pytest.raises(ValueError):
        unpack_item(tmp_path / "item", harm)
    assert not (tmp_path / "item").exists()


def test_names_in_a_packed_item_stay_in_its_folder(tmp_path):
    from dspex_nb.runs.keeping import unpack_item

    unpack_item(tmp_path / "folder" / "item", b'[["value.json",2],["../../outside",1]]\n{}x')
    assert sorted(path.name for path in (tmp_path / "folder" / "item").iterdir()) == ["outside", "value.json"]
    assert not (tmp_path / "outside").exists()
