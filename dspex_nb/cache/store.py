"""The disk tier: JSON files with a size index. `backend.py` makes a joblib store backend of it.

On disk, under the cache's directory:

    ab/abcdef….json                  one item: {"v": 1, "key": "abcdef…", "expires": null | epoch seconds, "value": {…}}
    half-written/abcdef….PID.N       an item while it is written; renamed when whole, swept when its writer was killed
    index.sqlite                     sizes and ages (see `index.py`); may be deleted at any time, is rebuilt from the items

An item is read without the index, so a hit is one open and one JSON parse. An item that is cut short, of another format or
under another's name is deleted, counted as a fault and treated as absent; files that are not items are left alone.

The index learns of an item before the item gets its name, and forgets it after it is gone. So a writer killed between the two
leaves the index counting too much, never too little, and the limit holds.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dspex_nb.cache.index import Row, SizeIndex

ITEM_VERSION = 1
_ITEM = re.compile(r"[0-9a-f]{8,}\.json")
_EXPIRES = re.compile(rb'^\{"v":\d+,"key":"[0-9a-f]+","expires":([0-9.]+),')
_HEAD_BYTES = 200
_HALF_WRITTEN = "half-written"
_ABANDONED_S = 600.0
_TOUCHES = 256
_counter = itertools.count()


class JsonStore:
    """Items as JSON files in `directory`, together at most `size_bytes` large.

    Attributes:
        faults: Unreadable items met so far.

    Raises:
        OSError: The directory is not there and cannot be made.
    """

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self.directory, self.size_bytes, self.faults = directory, size_bytes, 0
        self._root = str(directory)
        self._touched: dict[str, float] = {}
        directory.mkdir(parents=True, exist_ok=True)
        self._index = SizeIndex(directory, self.rows)
        self._sweep()

    def load(self, key: str) -> tuple[Any, float | None]:
        """Return an item's value and when it expires.

        Raises:
            KeyError: There is none, it expired, or it is unreadable.
        """
        try:
            with open(self.path(key), "rb") as file:  # noqa: PTH123 - pathlib's open costs a fifth of a hit
                item = json.loads(file.read())
            if item["v"] != ITEM_VERSION or item["key"] != key:
                raise ValueError("another's item")  # noqa: TRY301 - treated as the parse errors are
            value, expires = item["value"], item["expires"]
            over = expires is not None and expires <= time.time()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:  # e.g. no right to read, or too many open files: the item may be good
            self.faults += 1
            raise KeyError(key) from error
        except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
            self.faults += 1
            self._try_to(self.discard, [key])
            raise KeyError(key) from error
        if over:
            self._try_to(self.discard, [key])
            raise KeyError(key)
        self._touched[key] = time.time()
        if len(self._touched) >= _TOUCHES:
            self._try_to(self._flush_touched)
        return value, expires

    def dump(self, key: str, value: Any, expires: float | None) -> None:
        """Write an item whole or not at all, after making room where the limit would be passed.

        Raises:
            OSError, sqlite3.Error: The disk or the index refuses.
            TypeError, ValueError: The value is not JSON-able.
        """
        record = {"v": ITEM_VERSION, "key": key, "expires": expires, "value": value}
        content = json.dumps(record, separators=(",", ":")).encode()
        if len(content) > self.size_bytes:
            self.discard([key])
            return
        half = f"{self._root}/{_HALF_WRITTEN}/{key}.{os.getpid()}.{next(_counter)}"
        try:
            self._write_file(half, content)
            if self._index.add(key, len(content), expires) > self.size_bytes:
                self.make_room()  # before the item is there: a writer killed meanwhile leaves no more than the limit
            self._rename(half, self.path(key))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(half)  # noqa: PTH108 - the hot path
            raise
        if not self._index.knows(key):  # room was made between the two steps, and the item counted out
            self._recount([key])

    def discard(self, keys: Sequence[str]) -> None:
        """Delete items."""
        for key in keys:
            self._touched.pop(key, None)
            with contextlib.suppress(OSError):
                os.unlink(self.path(key))  # noqa: PTH108 - the hot path
        if keys:
            self._index.remove(keys)
            self._recount(keys)

    def clear(self) -> None:
        """Delete every item; files that are not items stay."""
        self.reconcile()
        self.discard([key for key, _ in self._index.sizes()])

    def make_room(self) -> int:
        """Delete what expired, then what was used longest ago, until a tenth of the limit is free; return how many."""
        self._flush_touched()
        expired = self._index.expired()
        self.discard(expired)
        oldest = self._index.oldest_over(self.size_bytes, self.size_bytes * 9 // 10)
        self.discard(oldest)
        return len(expired) + len(oldest)

    def reconcile(self) -> None:
        """Make the index agree with the files: after a killed writer, or when items came or went by other hands."""
        self._sweep()
        found = {row[0]: row for row in self.rows()}
        known = dict(self._index.sizes())
        self._index.remove([key for key in known if key not in found and not Path(self.path(key)).exists()])
        self._index.add_many([row for key, row in found.items() if known.get(key) != row[1]])

    def totals(self) -> tuple[int, int]:
        """Return bytes and number of all items, those of other processes included."""
        try:
            return self._index.totals()
        except (sqlite3.Error, OSError):  # a folder that may only be read has no index to ask
            sizes = [row[1] for row in self.rows()]
            return (sum(sizes), len(sizes))

    def close(self) -> None:
        """Write what is pending and close the index."""
        self._try_to(self._flush_touched)
        self._index.close()

    def path(self, key: str) -> str:
        """Return where an item lies."""
        return f"{self._root}/{key[:2]}/{key}.json"

    def rows(self) -> Iterator[Row]:
        """Read the index's row of every item from the files."""
        for shard in self.directory.iterdir():
            if len(shard.name) == 2 and shard.is_dir():  # noqa: PLR2004 - a key's first two digits
                for path in shard.iterdir():
                    if _ITEM.fullmatch(path.name) and path.name.startswith(shard.name) and (row := _row(path)) is not None:
                        yield row

    # Files

    def _rename(self, half: str, path: str) -> None:
        try:
            os.replace(half, path)  # noqa: PTH105 - the hot path
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - paths are strings here
            os.replace(half, path)  # noqa: PTH105 - as above

    def _write_file(self, path: str, content: bytes) -> None:
        try:
            self._write_new(path, content)
        except FileNotFoundError:  # the first item, or someone deleted the folder under us
            (self.directory / _HALF_WRITTEN).mkdir(parents=True, exist_ok=True)
            self._write_new(path, content)

    @staticmethod
    def _write_new(path: str, content: bytes) -> None:
        with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - the hot path
            written = file.write(content)
        if written != len(content):  # the disk took what it had room for
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _recount(self, keys: Sequence[str]) -> None:
        """Tell the index of those items that are there after all: another process wrote them at the same moment."""
        back = [row for key in keys if (row := _row(Path(self.path(key)))) is not None]
        if back:
            self._index.add_many(back)

    def _flush_touched(self) -> None:
        touched, self._touched = self._touched, {}
        if touched:
            self._index.touch(touched)

    def _sweep(self) -> None:
        """Delete what killed writers left half-written."""
        with contextlib.suppress(OSError):
            for half in (self.directory / _HALF_WRITTEN).iterdir():
                with contextlib.suppress(OSError):
                    if half.stat().st_mtime < time.time() - _ABANDONED_S:
                        half.unlink()

    @staticmethod
    def _try_to(act: Callable[..., object], *args: Any) -> None:
        """Do what only keeps the books: a hit stays a hit when the index or the disk refuses."""
        with contextlib.suppress(OSError, sqlite3.Error):
            act(*args)


def _row(path: Path) -> Row | None:
    try:
        status = path.stat()
        with path.open("rb") as file:
            expires = _EXPIRES.match(file.read(_HEAD_BYTES))
    except OSError:  # it went meanwhile, or may not be read
        return None
    return (path.stem, status.st_size, status.st_mtime, float(expires[1]) if expires else None)
