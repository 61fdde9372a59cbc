"""The disk tier: a joblib store backend whose items are JSON files.

On disk, under the cache's directory:

    ab/abcdef….json      one item: {"v": 1, "key": "abcdef…", "expires": null | epoch seconds, "value": {…}}
    ab/.abcdef….PID.N    an item while it is written; renamed onto its name when whole, swept when its writer was killed
    index.sqlite         sizes and ages (see `index.py`); may be deleted at any time, is rebuilt from the items

An item is read without the index, so a hit is one open and one JSON parse. An item that is cut short, of another format or
under another's name is deleted, counted as a fault and treated as absent; files that are not items are left alone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from joblib import register_store_backend
from joblib._store_backends import CacheItemInfo, StoreBackendBase, StoreBackendMixin

from dspex_nb.cache.index import SizeIndex

BACKEND = "dspex_json"
ITEM_VERSION = 1
DEFAULT_SIZE_BYTES = 1 << 30
_ITEM = re.compile(r"^[0-9a-f]{8,}\.json$")
_HALF_WRITTEN = re.compile(r"^\.[0-9a-f]{8,}\.\d+\.\d+$")
_ABANDONED_S = 600.0
_TOUCHES = 256
_counter = itertools.count()


class JsonStore(StoreBackendBase, StoreBackendMixin):  # type: ignore[misc]  # joblib is untyped
    """Items as JSON files with a size index; joblib's interface, so `joblib.Memory(backend="dspex_json")` can use it too.

    Attributes:
        faults: Unreadable items met so far.
    """

    def configure(self, location: str, verbose: int = 0, backend_options: Mapping[str, Any] | None = None) -> None:
        """Open the store at `location`; `backend_options` may set `size_bytes`."""
        self.location = str(location)
        self.verbose = verbose
        self.compress, self.mmap_mode = False, None
        self.size_bytes = int((backend_options or {}).get("size_bytes", DEFAULT_SIZE_BYTES))
        self.faults = 0
        self._touched: dict[str, float] = {}
        self._shards: set[str] = set()
        root = Path(self.location)
        root.mkdir(parents=True, exist_ok=True)
        self._index = SizeIndex(root)
        if self._index.fresh:
            self.reconcile()

    # What the cache uses

    def load_item(self, call_id: Sequence[str], verbose: int = 1, timestamp: float | None = None, metadata: Any = None) -> Any:
        """Return an item's value.

        Raises:
            KeyError: There is none, it expired, or it is unreadable.
        """
        del verbose, timestamp, metadata
        return self.load(_key(call_id))[0]

    def load(self, key: str) -> tuple[Any, float | None]:
        """Return an item's value and when it expires. Raises `KeyError` as `load_item` does."""
        path = self._path(key)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib's open costs a fifth of a hit
                item = json.loads(file.read())
            if item["v"] != ITEM_VERSION or item["key"] != key:
                raise ValueError("another's item")  # noqa: TRY301 - treated as the parse errors are
            value, expires = item["value"], item["expires"]
        except FileNotFoundError:
            raise KeyError(key) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.faults += 1
            self._discard([key])
            raise KeyError(key) from error
        if expires is not None and expires <= time.time():
            self._discard([key])
            raise KeyError(key)
        self._touched[key] = time.time()
        if len(self._touched) >= _TOUCHES:
            self._flush_touched()
        return value, expires

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:
        """Write a JSON-able item; raises OSError where the disk refuses and TypeError where the item is not JSON-able."""
        del verbose
        self.dump(_key(call_id), item, None)

    def dump(self, key: str, value: Any, expires: float | None) -> None:
        """Write an item whole or not at all, then make room if the limit is passed."""
        record = {"v": ITEM_VERSION, "key": key, "expires": expires, "value": value}
        content = json.dumps(record, separators=(",", ":")).encode()
        if len(content) > self.size_bytes:
            return
        path = self._path(key)
        self._write(key, path, content)
        if self._index.add(key, len(content), expires) > self.size_bytes:
            self.make_room()

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Say whether there is an item, without reading it."""
        return Path(self._path(_key(call_id))).exists()

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Delete an item."""
        self._discard([_key(call_id)])

    def clear(self) -> None:
        """Delete every item; files that are not items stay."""
        self._discard([key for key, _ in self._index.sizes()])
        self.reconcile()
        self._discard([key for key, _ in self._index.sizes()])

    def make_room(self) -> int:
        """Delete what expired, then what was used longest ago, until a tenth of the limit is free; return how many."""
        self._flush_touched()
        gone = self._index.expired()
        self._discard(gone)
        size = self._index.totals()[0]
        if size > self.size_bytes:
            oldest = self._index.oldest(size - int(self.size_bytes * 0.9))
            self._discard(oldest)
            gone += oldest
        return len(gone)

    def reconcile(self) -> None:
        """Make the index agree with the files: after a killed writer, or when the index was lost."""
        found: dict[str, tuple[int, float]] = {}
        for path in self._files():
            with contextlib.suppress(OSError):  # another process may delete it meanwhile
                status = path.stat()
                if _ITEM.match(path.name):
                    found[path.stem] = (status.st_size, status.st_mtime)
                elif _HALF_WRITTEN.match(path.name) and status.st_mtime < time.time() - _ABANDONED_S:
                    path.unlink()
        known = dict(self._index.sizes())
        self._index.remove([key for key in known if key not in found and not Path(self._path(key)).exists()])
        self._index.add_many([(key, size, used, None) for key, (size, used) in found.items() if known.get(key) != size])

    def totals(self) -> tuple[int, int]:
        """Return bytes and number of all items, those of other processes included."""
        return self._index.totals()

    def close(self) -> None:
        """Write what is pending and close the index."""
        with contextlib.suppress(Exception):
            self._flush_touched()
        self._index.close()

    # joblib's other methods

    def get_items(self) -> list[Any]:
        """Return joblib's record (path, size, last access) of every item."""
        import datetime as dt

        rows = []
        for path in self._files():
            if _ITEM.match(path.name):
                status = path.stat()
                rows.append(CacheItemInfo(str(path), status.st_size, dt.datetime.fromtimestamp(status.st_mtime)))  # noqa: DTZ006 - joblib compares naive times
        return rows

    def create_location(self, location: str) -> None:
        """Make a directory."""
        Path(location).mkdir(parents=True, exist_ok=True)

    def clear_location(self, location: str) -> None:
        """Delete one item's file, or every item if it is the store's own place."""
        if Path(location) == Path(self.location):
            self.clear()
        else:
            self._discard([Path(location).stem])

    def _open_item(self, f: str, mode: str) -> IO[Any]:
        return open(f, mode)  # noqa: PTH123 - joblib's hook returns an open file

    def _item_exists(self, location: str) -> bool:
        return Path(location).exists()

    def _move_item(self, src: str, dst: str) -> None:
        os.replace(src, dst)  # noqa: PTH105 - both are strings here

    # Files

    def _path(self, key: str) -> str:
        return f"{self.location}/{key[:2]}/{key}.json"

    def _write(self, key: str, path: str, content: bytes) -> None:
        shard = key[:2]
        if shard not in self._shards:
            os.makedirs(f"{self.location}/{shard}", exist_ok=True)  # noqa: PTH103 - the hot path
            self._shards.add(shard)
        half = f"{self.location}/{shard}/.{key}.{os.getpid()}.{next(_counter)}"
        try:
            self._write_file(half, content)
            os.replace(half, path)  # noqa: PTH105 - the hot path
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(half)  # noqa: PTH108 - the hot path
            if isinstance(error, FileNotFoundError):  # someone deleted the folder under us
                self._shards.discard(shard)
            raise

    @staticmethod
    def _write_file(path: str, content: bytes) -> None:
        with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - the hot path
            file.write(content)

    def _discard(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._touched.pop(key, None)
            with contextlib.suppress(OSError):
                os.unlink(self._path(key))  # noqa: PTH108 - the hot path
        if keys:
            self._index.remove(keys)

    def _flush_touched(self) -> None:
        touched, self._touched = self._touched, {}
        if touched:
            self._index.touch(touched)

    def _files(self) -> Iterator[Path]:
        for shard in Path(self.location).iterdir():
            if len(shard.name) == 2 and shard.is_dir():  # noqa: PLR2004 - a key's first two digits
                yield from shard.iterdir()


def _key(call_id: Sequence[str]) -> str:
    """One name for joblib's path-like ids; our own calls have a single part."""
    if len(call_id) == 1 and _ITEM.match(f"{call_id[0]}.json"):
        return call_id[0]
    import hashlib

    return hashlib.sha256("/".join(call_id).encode()).hexdigest()


register_store_backend(BACKEND, JsonStore)


def open_store(directory: Path, size_bytes: int) -> JsonStore:
    """Open the disk tier at `directory`."""
    store = JsonStore()
    store.configure(str(directory), backend_options={"size_bytes": size_bytes})
    return store
