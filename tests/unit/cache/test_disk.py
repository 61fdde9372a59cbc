from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings

import pytest

from dspex_nb.cache import Cache
from dspex_nb.errors import CacheError


def key(name):
    return hashlib.sha256(str(name).encode()).hexdigest()


def disk(folder, **options):
    return Cache(memory_entries=0, directory=folder, **options)


def put_all(cache, names):
    for name in names:
        cache.put(key(name), {"n": name})


def item_of(folder, name):
    return folder / key(name)[:2] / f"{key(name)}.json"


def run(code, *args):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=True
    ).stdout.strip()


WRITER = """
import sys, hashlib
from dspex_nb.cache import Cache
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
c = Cache(memory_entries=0, directory=folder, size_bytes=int(sys.argv[4]) if len(sys.argv) > 4 else 1 << 30)
for i in range(count):
    for who in (name, "shared"):
        c.put(hashlib.sha256(f"{who}{i}".encode()).hexdigest(), {"who": who, "i": i, "text": "x" * 500})
    if count > 10_000 and i == 50: print("going", flush=True)
s = c.stats()
print(s.faults)
"""


def test_it_survives_the_process(tmp_path):
    assert run(WRITER, tmp_path, "a", 3) == "0"
    cache = disk(tmp_path)
    assert cache.get(key("a2")).value["i"] == 2
    assert cache.get(key("a2")).tier == "disk"


def test_eight_processes_write_at_once(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), f"w{n}", "40"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert (out.strip(), err) == ("0", "")
    cache = disk(tmp_path)
    assert all(cache.get(key(f"w{n}{i}")).value["who"] == f"w{n}" for n in range(8) for i in range(40))
    stats = cache.stats()
    files = list(tmp_path.rglob("*.json"))
    assert (stats.entries, stats.bytes) == (len(files), sum(path.stat().st_size for path in files))
    assert (stats.entries, stats.faults) == (8 * 40 + 40, 0)


def test_a_killed_writer_leaves_a_cache_that_works(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "k", "100000"], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "going\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    half = tmp_path / "half-written" / f"{key('k0')}.999.7"
    half.write_bytes(b'{"v":1,')
    os.utime(half, (time.time() - 3600,) * 2)
    cache = disk(tmp_path)
    assert all(cache.get(key(f"k{i}")).value["i"] == i for i in range(50))
    cache.put(key("after"), {"n": 1})
    cache.trim()
    assert not half.exists()
    files = list(tmp_path.rglob("*.json"))
    assert cache.stats().entries == len(files)
    assert cache.stats().faults == 0


@pytest.mark.parametrize(
    "content",
    [
        b"", b'{"v":1,"key"', b"\x80\x04pickle", b"[]", b"null", b'"x"', b"{}", b'{"v":99}',
        json.dumps({"v": 1, "key": "another", "expires": None, "value": {}}).encode(),
    ],
)  # fmt: skip
def test_an_unreadable_item_is_skipped_counted_and_replaced(tmp_path, content):
    cache = disk(tmp_path)
    cache.put(key(1), {"n": 1})
    item_of(tmp_path, 1).write_bytes(content)
    assert cache.get(key(1)) is None
    assert cache.stats().faults == 1
    cache.put(key(1), {"n": 2})
    assert cache.get(key(1)).value == {"n": 2}


def test_foreign_files_are_left_alone(tmp_path):
    cache = disk(tmp_path)
    cache.put(key(1), {"n": 1})
    foreign = [tmp_path / "notes.txt", tmp_path / key(1)[:2] / "README", tmp_path / "zz" / "photo.json"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    cache.trim()
    cache.clear()
    assert all(path.read_text() == "mine" for path in foreign)
    assert cache.stats().entries == 0


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), lambda path: path.write_bytes(b"not a database" * 100), lambda path: path.write_bytes(b"")],
)
def test_a_lost_or_damaged_index_is_built_anew(tmp_path, damage):
    first = disk(tmp_path)
    for number in range(5):
        first.put(key(number), {"n": number})
    before = first.stats()
    first.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"index.sqlite{suffix}").unlink(missing_ok=True)
    damage(tmp_path / "index.sqlite")
    cache = disk(tmp_path)
    assert cache.get(key(3)).value == {"n": 3}
    assert (cache.stats().entries, cache.stats().bytes) == (before.entries, before.bytes)


def test_the_limit_is_enforced_and_what_was_used_lately_stays(tmp_path):
    cache = disk(tmp_path, size_bytes=20_000)
    cache.put(key("kept"), {"text": "k" * 500})
    for number in range(200):
        cache.put(key(number), {"text": "x" * 500})
        assert cache.get(key("kept")) is not None
    files = list(tmp_path.rglob("*.json"))
    assert sum(path.stat().st_size for path in files) <= 20_000
    assert cache.stats().bytes == sum(path.stat().st_size for path in files)
    assert cache.get(key(199)) is not None
    assert cache.get(key(0)) is None


def test_processes_keep_the_limit_together(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), f"w{n}", "60", "30000"]) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.json")) <= 31_500  # one item a process may be on its way


def test_an_item_larger_than_the_cache_is_not_kept(tmp_path):
    cache = disk(tmp_path, size_bytes=1000)
    cache.put(key("small"), {"n": 1})
    cache.put(key("large"), {"text": "x" * 2000})
    assert cache.get(key("large")) is None
    assert cache.get(key("small")) is not None


def test_time_to_live_holds_in_a_new_process_and_trim_removes_the_rest(tmp_path):
    disk(tmp_path, ttl_s=0.05).put(key("short"), {"n": 1})
    disk(tmp_path, ttl_s=500).put(key("long"), {"n": 1})
    time.sleep(0.06)
    cache = disk(tmp_path)
    assert cache.trim() == 1
    assert [cache.get(key("short")), cache.stats().entries] == [None, 1]
    assert cache.get(key("long")) is not None


def test_the_memory_tier_keeps_to_the_time_of_what_it_read_from_disk(tmp_path):
    disk(tmp_path, ttl_s=0.1).put(key(1), {"n": 1})
    cache = Cache(directory=tmp_path)
    assert cache.get(key(1)).tier == "disk"
    assert cache.get(key(1)).tier == "memory"
    time.sleep(0.11)
    assert cache.get(key(1)) is None


def test_a_full_disk_is_said_once_and_work_goes_on(tmp_path, monkeypatch):
    from dspex_nb.cache.store import JsonStore

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = Cache(directory=tmp_path)
    cache.put(key("before"), {"n": 0})
    monkeypatch.setattr(JsonStore, "_write_new", staticmethod(full))
    with pytest.warns(RuntimeWarning, match="No space left.*Work goes on") as said:
        put_all(cache, range(5))
    assert len(said) == 1
    assert cache.get(key(4)).tier == "memory"
    assert cache.stats().faults == 5
    assert not list((tmp_path / "half-written").iterdir())
    monkeypatch.undo()
    cache.put(key("after"), {"n": 9})  # space was freed: kept again
    assert disk(tmp_path).get(key("after")).value == {"n": 9}


def test_a_really_full_disk(small):
    cache = Cache(directory=small)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number in range(300):
            cache.put(key(number), {"text": "x" * 2000})
    assert len(said) == 1
    assert all(cache.get(key(number)).value["text"] for number in range(300))
    again = disk(small)
    kept = [number for number in range(300) if again.get(key(number)) is not None]
    assert 0 < len(kept) < 300
    cache.close()
    again.close()


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(directory=tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="Not a directory") as said:
        put_all(cache, (1, 2))
    assert len(said) == 1
    assert cache.get(key(1)).value == {"n": 1}


def test_a_folder_deleted_under_us_comes_back(tmp_path):
    import shutil

    cache = disk(tmp_path / "c")
    cache.put(key(1), {"n": 1})
    shutil.rmtree(tmp_path / "c" / key(1)[:2])
    assert cache.get(key(1)) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.put(key(1), {"n": 1})
        cache.put(key(1), {"n": 2})
    assert cache.get(key(1)).value == {"n": 2}


def test_what_is_not_json_is_kept_in_memory_alone(tmp_path):
    cache = Cache(directory=tmp_path)
    with pytest.warns(RuntimeWarning, match="not JSON"):
        cache.put(key(1), {"n": object()})
    assert cache.get(key(1)).tier == "memory"


@pytest.mark.parametrize("options", [{"memory_entries": -1}, {"size_bytes": -1}, {"ttl_s": 0}])
def test_impossible_limits_are_refused(options):
    with pytest.raises(CacheError, match=next(iter(options))):
        Cache(**options)


def test_it_is_a_joblib_store_backend(tmp_path):
    import joblib

    import dspex_nb.cache.backend  # noqa: F401 - registers it

    calls = []

    def double(n):
        calls.append(n)
        return {"twice": 2 * n}

    memory = joblib.Memory(str(tmp_path), backend="dspex_json", verbose=0)
    cached = memory.cache(double)
    assert [cached(2), cached(2), cached(3)] == [{"twice": 4}, {"twice": 4}, {"twice": 6}]
    assert calls == [2, 3]


def test_the_layout_is_as_documented(tmp_path):
    cache = disk(tmp_path)
    cache.put(key(1), {"n": 1})
    assert json.loads(item_of(tmp_path, 1).read_text()) == {"v": 1, "key": key(1), "expires": None, "value": {"n": 1}}
    with sqlite3.connect(tmp_path / "index.sqlite") as index:
        assert index.execute("SELECT key FROM items").fetchall() == [(key(1),)]


def test_a_forked_child_writes_too(tmp_path):
    cache = disk(tmp_path)
    cache.put(key("parent"), {"n": 1})
    pid = os.fork()
    if pid == 0:
        cache.put(key("child"), {"n": 2})
        os._exit(cache.stats().faults)
    assert os.waitpid(pid, 0)[1] == 0
    assert cache.get(key("child")).value == {"n": 2}
    assert cache.stats().entries == 2
