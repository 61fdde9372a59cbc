"""The disk tier in trouble: killed writers, many writers, an index lost, damaged or locked, disks that are full or read-only."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import warnings

import pytest

from dspex_nb.cache import Cache
from dspex_nb.cache import index as index_module


def key(name):
    return hashlib.sha256(str(name).encode()).hexdigest()


def disk(folder, **options):
    return Cache(memory_entries=0, directory=folder, **options)


def item_of(folder, name):
    return folder / key(name)[:2] / f"{key(name)}.json"


def items(folder):
    return [path for path in folder.rglob("*.json") if len(path.parent.name) == 2]


def on_disk(folder):
    return (len(items(folder)), sum(path.stat().st_size for path in items(folder)))


def counted(cache):
    stats = cache.stats()
    return (stats.entries, stats.bytes)


def said_by(*acts):
    """Do it all and return the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for act in acts:
            act()
    return [str(one.message) for one in said]


def put_all(cache, names, length=0):
    for name in names:
        cache.put(key(name), {"n": name, "text": "x" * length})


# Writers are forked from one small process: a Python start each would cost more than the test.
FORKED = """
import hashlib, os, random, signal, sys, time
from dspex_nb.cache import Cache
folder, writers, size_bytes, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def key(name): return hashlib.sha256(name.encode()).hexdigest()
def write(who, count):
    cache = Cache(memory_entries=0, directory=folder, size_bytes=size_bytes)
    for i in range(count):
        cache.put(key(f"{who}-{i}"), {"who": who, "i": i, "text": "x" * random.Random(f"{who}{i}").randrange(100, 4000)})
    os._exit(cache.stats().faults)
Cache(directory=folder, size_bytes=size_bytes).put(key("first"), {"n": 1})
faults = 0
for batch in range(writers if mode == "kill" else 1):
    pids = []
    for n in range(1 if mode == "kill" else writers):
        pid = os.fork()
        if pid == 0:
            write(batch if mode == "kill" else n, 10_000 if mode == "kill" else 60)
        pids.append(pid)
    if mode == "kill":
        time.sleep(random.Random(batch).uniform(0.004, 0.02))
        os.kill(pids[0], signal.SIGKILL)
    for pid in pids:
        faults += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) > 0
print(faults)
"""


def forked(folder, writers, size_bytes, mode):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(folder), str(writers), str(size_bytes), mode],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return int(done.stdout)


def test_writers_killed_again_and_again_leave_whole_items_and_a_kept_limit(tmp_path):
    limit = 100_000
    forked(tmp_path, 40, limit, "kill")
    files, size = on_disk(tmp_path)
    assert files > 20
    assert size <= limit
    for path in items(tmp_path):  # nothing is half there
        assert json.loads(path.read_text())["key"] == path.stem
    cache = disk(tmp_path, size_bytes=limit)
    assert counted(cache)[1] >= size  # never counted too little, so the limit holds whoever was killed when
    cache.put(key("after"), {"n": 1})
    assert cache.get(key("after")).value == {"n": 1}
    cache.trim()
    assert counted(cache) == on_disk(tmp_path)
    assert cache.stats().faults == 0


def test_eight_processes_keep_a_small_limit_together(tmp_path):
    limit = 40_000
    assert forked(tmp_path, 8, limit, "together") == 0
    assert on_disk(tmp_path)[1] <= limit
    cache = disk(tmp_path, size_bytes=limit)
    assert counted(cache) == on_disk(tmp_path)
    assert not list((tmp_path / "half-written").iterdir())


def test_the_limit_holds_at_every_moment(tmp_path, monkeypatch):
    """Whenever a writer is killed: room is made before the item that needs it is there."""
    limit, seen = 10_000, []
    cache = disk(tmp_path, size_bytes=limit)
    cache.put(key("first"), {"n": 1})
    unlink = os.unlink

    def watched(path):
        seen.append(on_disk(tmp_path)[1])
        unlink(path)

    monkeypatch.setattr(os, "unlink", watched)
    put_all(cache, range(60), 600)
    cache.put(key("nearly all of it"), {"text": "x" * 9500})
    assert len(seen) > 30
    assert max(seen) <= limit
    assert cache.get(key("nearly all of it")).value["text"] == "x" * 9500
    assert counted(cache) == on_disk(tmp_path) == (1, on_disk(tmp_path)[1])
    assert cache.stats().faults == 0


def test_an_item_put_while_another_makes_room_is_counted(tmp_path, monkeypatch):
    """The evictor forgets the item between the writer's two steps: the writer counts it again."""
    cache = disk(tmp_path)
    cache.put(key(0), {"n": 0})
    store = cache._store
    rename = store._rename

    def interrupted(half, path):
        store._index.remove([key(1)])
        rename(half, path)

    monkeypatch.setattr(store, "_rename", interrupted)
    cache.put(key(1), {"n": 1})
    assert counted(cache) == on_disk(tmp_path)


@pytest.mark.parametrize(
    "foreign",
    [
        b"[" * 100_000,
        b'{"v":1,"key":"%s","expires":"soon","value":{}}' % key(1).encode(),
        b'{"v":1,"key":"%s","expires":null,"value":[1]}' % key(1).encode(),
        b'{"v":1,"key":"%s","expires":null,"value":"text"}' % key(1).encode(),
        bytes(range(256)) * 50,
    ],
)
def test_foreign_content_is_a_counted_miss(tmp_path, foreign):
    cache = disk(tmp_path)
    cache.put(key(1), {"n": 1})
    item_of(tmp_path, 1).write_bytes(foreign)
    assert cache.get(key(1)) is None
    assert (cache.stats().faults, cache.stats().misses) == (1, 1)
    cache.put(key(1), {"n": 2})
    assert cache.get(key(1)).value == {"n": 2}


@pytest.mark.parametrize("value", [{"cost": "dear"}, {"usage": [1]}, {"usage": {"prompt_tokens": "many"}}, {"outputs": 3}])
def test_values_of_another_shape_are_served_and_counted_as_unpriced(tmp_path, value):
    cache = Cache(directory=tmp_path)
    cache.put(key(1), value)
    assert cache.get(key(1)).value == value
    assert disk(tmp_path).get(key(1)).value == value
    assert (cache.stats().saved_cost, cache.stats().saved_tokens, cache.stats().unpriced_hits) == (0.0, 0, 1)


def test_a_folder_where_an_item_should_be_is_skipped(tmp_path):
    cache = disk(tmp_path)
    item_of(tmp_path, 1).mkdir(parents=True)
    assert cache.get(key(1)) is None
    assert cache.stats().faults == 1
    with pytest.warns(RuntimeWarning, match="could not be written"):
        cache.put(key(1), {"n": 1})
    cache.trim()
    assert item_of(tmp_path, 1).is_dir()


def test_any_text_comes_back_as_it_was(tmp_path):
    value = {"outputs": [{"text": "\ud800 lone, \x00 nul, 🙂"}], "n": 1 << 80}
    disk(tmp_path).put(key(1), value)
    assert disk(tmp_path).get(key(1)).value == value


def test_a_value_too_large_to_keep_leaves_no_old_one_behind(tmp_path):
    cache = disk(tmp_path, size_bytes=1000)
    cache.put(key(1), {"n": 1})
    cache.put(key(1), {"text": "x" * 2000})
    assert cache.get(key(1)) is None
    assert counted(cache) == on_disk(tmp_path) == (0, 0)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: [path.with_name(f"index.sqlite{suffix}").unlink(missing_ok=True) for suffix in ("", "-wal", "-shm")],
    ],
)
def test_an_index_deleted_under_a_running_process_is_built_anew(tmp_path, harm):
    cache = disk(tmp_path)
    for number in range(5):
        cache.put(key(number), {"n": number})
    harm(tmp_path / "index.sqlite")
    cache.put(key(5), {"n": 5})
    assert counted(cache) == counted(disk(tmp_path)) == on_disk(tmp_path)
    assert on_disk(tmp_path)[0] == 6
    assert cache.stats().faults == 0


def test_a_left_over_log_does_not_spoil_a_new_index(tmp_path):
    other = disk(tmp_path)  # its handle stays open, so that the log is not folded in
    for number in range(5):
        other.put(key(number), {"n": number})
    assert (tmp_path / "index.sqlite-wal").stat().st_size
    (tmp_path / "index.sqlite").unlink()
    cache = disk(tmp_path)
    cache.put(key(9), {"n": 9})
    assert counted(cache) == on_disk(tmp_path) == (6, on_disk(tmp_path)[1])


def test_an_index_damaged_under_a_running_process_is_built_anew(tmp_path):
    cache = disk(tmp_path)
    for number in range(300):
        cache.put(key(number), {"n": number})
    with sqlite3.connect(tmp_path / "index.sqlite") as index:
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.close()
    path = tmp_path / "index.sqlite"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    assert len(said_by(lambda: put_all(cache, range(300, 303)))) == 1
    assert cache.get(key(5)).value == {"n": 5}
    cache.put(key(400), {"n": 400})
    assert disk(tmp_path).get(key(400)).value == {"n": 400}
    assert counted(cache) == on_disk(tmp_path)


def test_an_index_of_another_make_is_put_aside(tmp_path):
    with sqlite3.connect(tmp_path / "index.sqlite") as foreign:
        foreign.execute("CREATE TABLE totals (x)")
    foreign.close()
    cache = disk(tmp_path)
    cache.put(key(1), {"n": 1})
    assert counted(cache) == on_disk(tmp_path)
    assert cache.stats().faults == 0


def test_an_index_made_anew_knows_when_items_expire(tmp_path):
    first = disk(tmp_path)
    first.put(key("short"), {"n": 1}, ttl_s=0.01)
    first.put(key("long"), {"n": 1}, ttl_s=500)
    first.close()
    (tmp_path / "index.sqlite").unlink()
    time.sleep(0.02)
    assert disk(tmp_path).trim() == 1
    assert [path.stem for path in items(tmp_path)] == [key("long")]


def test_a_locked_index_stops_neither_hits_nor_work(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "_WAIT_S", 0.1)
    disk(tmp_path).put(key(1), {"n": 1})
    holder = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    cache = Cache(directory=tmp_path)
    began = time.perf_counter()
    said = said_by(lambda: put_all(cache, range(2, 40)))
    assert len(said) == 1
    assert "locked" in said[0]
    assert time.perf_counter() - began < 2  # the lock is waited for once, not 38 times
    assert all(cache.get(key(number)).value["n"] == number for number in range(1, 40))
    reader = disk(tmp_path)
    put = [key(1), *(key(f"more{number}") for number in range(300))]
    for one in put[1:]:  # hits enough for a flush of what was used, which the lock refuses
        item = json.loads(item_of(tmp_path, 1).read_text()) | {"key": one}
        path = tmp_path / one[:2] / f"{one}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(item))
    assert all(reader.get(one).value == {"n": 1} for one in put)
    reader.close()
    holder.execute("ROLLBACK")
    holder.close()
    cache._store._index._locked_until = 0.0
    cache.put(key("later"), {"n": 0})
    assert disk(tmp_path).get(key("later")).value == {"n": 0}


def test_a_disk_that_fills_cuts_no_item_short_and_is_used_again_when_there_is_room(small):
    cache = Cache(directory=small)
    said = said_by(lambda: put_all(cache, range(200), 3000))
    assert len(said) == 1
    assert "No space left" in said[0] or "full" in said[0]
    assert items(small)
    for path in items(small):
        assert len(json.loads(path.read_text())["value"]["text"]) == 3000
    assert all(cache.get(key(number)) is not None for number in range(200))
    assert said_by(cache.clear, lambda: cache.put(key("again"), {"n": 1})) == []
    assert disk(small).get(key("again")).value == {"n": 1}


def test_a_read_only_folder_serves_what_it_has(small):
    first = disk(small)
    first.put(key(1), {"n": 1})
    first.put(key(2), {"n": 2}, ttl_s=0.01)
    first.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    time.sleep(0.02)
    cache = Cache(directory=small)
    assert cache.get(key(1)).tier == "disk"
    assert cache.get(key(2)) is None
    said = said_by(lambda: put_all(cache, (3, 4)), cache.trim, cache.clear)
    assert len(said) == 1
    assert "Work goes on" in said[0]
    assert cache.stats().entries == 2
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)


def test_a_read_only_folder_without_a_cache_is_said_once(small):
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    cache = Cache(directory=small / "cache")
    said = said_by(lambda: cache.get(key(1)), lambda: put_all(cache, (1, 2)))
    assert len(said) == 1
    assert "Read-only" in said[0]
    assert cache.get(key(1)).tier == "memory"


QUOTA = """
import resource, sys, warnings
from dspex_nb.cache import Cache
cache = Cache(directory=sys.argv[1])
cache.put("a" * 64, {"n": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for name in "bcdef":
        cache.put(name * 64, {"text": "x" * 5000})
assert all(cache.get(name * 64).tier == "memory" for name in "abcdef")
print(len(said), cache.stats().faults, said[0].message)
"""


def test_a_limit_on_file_sizes_is_said_once(tmp_path):
    """No mock and no root: the kernel itself refuses to write more than 2,000 bytes into a file."""
    out = subprocess.run([sys.executable, "-c", QUOTA, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert out.startswith("1 5 ")
    assert [path.stem for path in items(tmp_path)] == ["a" * 64]
    assert not list((tmp_path / "half-written").iterdir())


def test_threads_put_get_and_make_room_together(tmp_path):
    cache = disk(tmp_path, size_bytes=30_000)
    errors = []

    def work(who):
        try:
            for number in range(150):
                cache.put(key(f"{who}{number}"), {"n": number, "text": "x" * 300})
                cache.get(key(f"{(who + 1) % 4}{number}"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cache.stats().faults == 0
    assert counted(cache) == on_disk(tmp_path)
    assert on_disk(tmp_path)[1] <= 30_000


def test_the_disk_tier_needs_no_joblib(tmp_path):
    code = (
        "import sys; from dspex_nb.cache import Cache; c = Cache(directory=sys.argv[1]); c.put('a' * 64, {'n': 1}); "
        "c.get('a' * 64); print('joblib' in sys.modules, 'numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert out == "False False\n"
