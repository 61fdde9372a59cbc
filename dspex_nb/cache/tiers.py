"""The cache: memory over disk over a shared server. What it cannot keep it does without, and says so once; no call fails."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dspex_nb.ambient import home
from dspex_nb.cache.memory import MemoryTier
from dspex_nb.cache.paying import Asking, Payers
from dspex_nb.cache.records import CacheStats, Hit, Savings
from dspex_nb.errors import CacheError

if TYPE_CHECKING:
    from dspex_nb.cache.redis_tier import RedisTier
    from dspex_nb.cache.signing import SigningKey
    from dspex_nb.cache.store import JsonStore

T = TypeVar("T")
SIZE_BYTES = 1 << 30


class Cache:
    """Keeps JSON values by key, in memory and (with a directory) on disk, shared with every process that uses the directory.

    With `redis_url` also on a server that kernels on several machines share; it keeps signed results of pure steps, too.

    Args:
        memory_entries: Entries held in memory, the least recently used leave first.
        directory: Folder of the disk tier; None keeps everything in memory alone.
        size_bytes: Limit of the disk tier, enforced at every write.
        ttl_s: How long entries last where `put` does not say; None for ever.
        redis_url: A Redis or Valkey server, `"redis://:password@host:6379/0"`; needs the extra `redis`.
        signing_key: The secret that signs results of steps on that server, the same on every machine that shares them. By
            default `$DSPEX_SIGNING_KEY`, else the file `signing.key` in the DSPEX home; without one no step is shared.

    Raises:
        CacheError: A limit, URL or key that cannot be used.
        MissingDependencyError: `redis_url` without the package redis.
    """

    def __init__(
        self,
        memory_entries: int = 10_000,
        directory: Path | str | None = None,
        size_bytes: int = SIZE_BYTES,
        ttl_s: float | None = None,
        redis_url: str | None = None,
        signing_key: str | None = None,
    ) -> None:
        if memory_entries < 0 or size_bytes < 0 or (ttl_s is not None and ttl_s <= 0):
            raise CacheError(
                f"a cache cannot have memory_entries={memory_entries}, size_bytes={size_bytes}, ttl_s={ttl_s}",
                hint="give counts and sizes of at least 0, and a ttl_s above 0 or None",
            )
        self.memory_entries, self.size_bytes, self.ttl_s = memory_entries, size_bytes, ttl_s
        self.directory = Path(directory).expanduser() if directory is not None else None
        self._memory = MemoryTier(memory_entries)
        self._lock = threading.Lock()
        self._store: JsonStore | None = None
        self._warned = self._unusable = False
        self._hits_disk = self._hits_redis = self._misses = self._faults = 0
        self._saved = Savings()
        self._redis_url = redis_url
        self.remote: RedisTier | None = None
        self.signing_key: SigningKey | None = None
        if redis_url is not None:
            self._share(redis_url, signing_key)
        self._payers = Payers(self.directory, self.remote)

    def _share(self, redis_url: str, signing_key: str | None) -> None:
        from dspex_nb.cache.redis_tier import RedisTier
        from dspex_nb.cache.signing import SigningKey, find_key

        self.remote = RedisTier(redis_url)
        self.signing_key = SigningKey(signing_key) if signing_key is not None else find_key(home())

    def get(self, key: str, *, again: bool = False, local: bool = False) -> Hit | None:
        """Return the value kept under `key` and its tier, or None.

        Args:
            key: As `request_key` makes it.
            again: Count no second miss.
            local: Do not ask the shared server, which takes a while; what is not found here is not counted yet.
        """
        hit = self._memory.get(key)
        if hit is not None:
            return hit
        found = self._on_disk(lambda store: store.load(key), "read")
        if found is not None and isinstance(found[0], dict):
            value, expires = found
            self._memory.put(key, value, expires)
            with self._lock:
                self._hits_disk += 1
                self._saved += Savings.of(value)
            return Hit(value, "disk")
        if self.remote is not None:
            if local:
                return None
            hit = self._from_remote(self.remote, key)
        with self._lock:
            self._misses += not again and hit is None
            self._faults += found is not None  # well-formed, and still none of ours
        return hit

    def _from_remote(self, remote: RedisTier, key: str) -> Hit | None:
        found = remote.load(key)
        if found is None:
            return None
        value, expires = found
        self._memory.put(key, value, expires)
        self._on_disk(lambda store: store.dump(key, value, expires), "written")
        with self._lock:
            self._hits_redis += 1
            self._saved += Savings.of(value)
        return Hit(value, "redis")

    def peek(self, key: str) -> Mapping[str, Any] | None:
        """Return the value kept under `key`, or None; for looking at it: no use is counted, nothing is said to be saved."""
        kept = self._memory.peek(key)
        if kept is not None:
            return kept
        found = self._on_disk(lambda store: store.load(key), "read")
        return found[0] if found is not None and isinstance(found[0], dict) else None

    def put(self, key: str, value: Mapping[str, Any], ttl_s: float | None = None) -> None:
        """Keep a JSON-able value; it is on disk and on the shared server when this returns, unless they refused."""
        ttl_s = self.ttl_s if ttl_s is None else ttl_s
        expires = time.time() + ttl_s if ttl_s is not None else None
        self._memory.put(key, value, expires)
        self._on_disk(lambda store: store.dump(key, value, expires), "written")
        if self.remote is not None:
            self.remote.dump(key, value, ttl_s)

    def asking(self, key: str, loop_thread: int | None = None) -> Asking:
        """Return what lets one process at a time ask for `key`; see `Payers.take`."""
        return Asking(self._payers, key, loop_thread)

    def dump_state(self) -> dict[str, Any]:
        """Return what opens the same cache in another process, as JSON without any secret: `Cache(**state, **secrets)`."""
        return {
            "memory_entries": self.memory_entries,
            "directory": None if self.directory is None else str(self.directory),
            "size_bytes": self.size_bytes,
            "ttl_s": self.ttl_s,
        }

    def secrets(self) -> dict[str, Any]:
        """Return the rest of what `Cache` takes; hand it over a pipe, never to a file."""
        if self._redis_url is None:
            return {}
        key = self.signing_key
        return {"redis_url": self._redis_url, **({"signing_key": key.reveal()} if key is not None else {})}

    def stats(self) -> CacheStats:
        """Return the counts since opening, and what is on disk now."""
        size, on_disk = self._on_disk(lambda store: store.totals(), "read") or (0, 0)
        remote, in_memory = self.remote, len(self._memory)
        faults = self._faults + (self._store.faults if self._store else 0) + (remote.faults if remote else 0)
        saved = self._saved + self._memory.saved
        on_server = remote.count() if remote else 0
        return CacheStats(
            hits_memory=self._memory.hits, hits_disk=self._hits_disk, hits_redis=self._hits_redis, misses=self._misses,
            entries=on_disk if self.directory else on_server if remote else in_memory, bytes=size, faults=faults,
            saved_cost=saved.cost, saved_tokens=saved.tokens, unpriced_hits=saved.unpriced, memory_entries=in_memory,
            directory=str(self.directory) if self.directory else None, size_bytes=self.size_bytes,
            redis=remote.where if remote else None, redis_entries=on_server, redis_down=remote.down if remote else "",
        )  # fmt: skip

    def clear(self) -> None:
        """Delete every entry in every tier, on the shared server also those of others."""
        self._memory.clear()
        self._on_disk(lambda store: store.clear(), "cleared")
        if self.remote is not None:
            self.remote.clear()

    def trim(self) -> int:
        """Delete expired entries and what exceeds the limit, repair the index; return how many entries went."""

        def work(store: JsonStore) -> int:
            store.reconcile()
            return store.make_room()

        gone = self._memory.trim()
        return gone if self.directory is None else self._on_disk(work, "trimmed") or 0

    def close(self) -> None:
        """Close files and connections; the next use opens them again."""
        if self.remote is not None:
            self.remote.close()
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            self._faults += store.faults
            store.close()

    def __repr__(self) -> str:
        where = f"directory={str(self.directory)!r}, size_bytes={self.size_bytes}" if self.directory else "memory only"
        shared = f", redis={self.remote.where!r}" if self.remote is not None else ""
        return f"Cache(memory_entries={self.memory_entries}, {where}, ttl_s={self.ttl_s}{shared})"

    def _on_disk(self, work: Callable[[JsonStore], T], done: str) -> T | None:
        """Do `work` on the disk tier; whatever the disk answers, the caller goes on."""
        if self.directory is None or self._unusable:
            return None
        try:
            return work(self._store or self._open(self.directory))
        except KeyError:
            return None
        except (OSError, sqlite3.Error, TypeError, ValueError, RecursionError) as error:
            with self._lock:
                self._faults += 1
                warned, self._warned = self._warned, True
            if not warned:
                self._warn(error, done)
            return None

    def _open(self, directory: Path) -> JsonStore:
        from dspex_nb.cache.store import JsonStore

        with self._lock:
            if self._store is None:
                try:
                    self._store = JsonStore(directory, self.size_bytes)
                except OSError:
                    self._unusable = True
                    raise
                weakref.finalize(self, _close, self._store, os.getpid())
            return self._store

    def _warn(self, error: Exception, done: str) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        warnings.warn(
            f"the cache in {self.directory} could not be {done}: {reason}. Work goes on with the memory cache; "
            "answers received now are not kept for the next kernel. Free space or choose another directory.",
            RuntimeWarning,
            stacklevel=4,
        )


def _close(store: JsonStore, pid: int) -> None:
    if pid == os.getpid():
        with contextlib.suppress(Exception):
            store.close()
