"""Kept results as a joblib store backend: importing this module makes `joblib.Memory(backend="dspex_steps")` work.

joblib's machinery finds, measures and deletes items, oldest use first; what an item is made of is `keeping.py`'s, so nothing is
pickled. An item is a folder, `ab/abcdef…/`, that holds `value.json` and the files beside it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from joblib import register_store_backend
from joblib._store_backends import CacheItemInfo

from dspex_nb.cache.backend import FolderBackend, item_key
from dspex_nb.runs.keeping import read_item, write_item

BACKEND = "dspex_steps"
SIZE_BYTES = 2 * 1024**3


class StepItems(FolderBackend):
    """joblib's interface to a folder of kept values, together at most `size_bytes` large."""

    def configure(self, location: str, verbose: int = 0, backend_options: Mapping[str, Any] | None = None) -> None:
        """Use the folder `location`; `backend_options` may set `size_bytes`."""
        self.location, self.verbose = str(location), verbose
        self.compress, self.mmap_mode = False, None
        self.size_bytes = int((backend_options or {}).get("size_bytes", SIZE_BYTES))
        self._lock = threading.Lock()
        self._bytes: int | None = None

    def folder(self, call_id: Sequence[str]) -> Path:
        """Return where an item lies."""
        key = item_key(call_id)
        return Path(self.location, key[:2], key)

    def load_item(self, call_id: Sequence[str], verbose: int = 1, timestamp: float | None = None, metadata: Any = None) -> Any:
        """Return an item's value.

        Raises:
            KeyError: There is none, or it is unreadable.
        """
        del verbose, timestamp, metadata
        return self.read(call_id)

    def read(self, call_id: Sequence[str], classes: Iterable[type] = (), max_age_s: float | None = None) -> Any:
        """Return an item's value if it is young enough; `classes` are the models it may hold.

        Raises:
            KeyError: There is none, it is too old, or it is unreadable.
        """
        folder = self.folder(call_id)
        value = read_item(folder, classes=classes, max_age_s=max_age_s)[0]
        with contextlib.suppress(OSError):  # its age in use; a folder that may only be read has none
            os.utime(folder)
        return value

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:
        """Write an item; raises Unkeepable where it would not come back equal and OSError where the disk refuses."""
        del verbose
        self.write(call_id, item)

    def write(self, call_id: Sequence[str], item: Any, classes: Iterable[type] = ()) -> None:
        """Write an item whole or not at all, then delete what was used longest ago if the limit is passed.

        Raises:
            Unkeepable: It would not come back equal.
            OSError: The disk refuses.
        """
        size = write_item(self.folder(call_id), item, classes=classes)
        with self._lock:
            self._bytes = sum(one.size for one in self.get_items()) if self._bytes is None else self._bytes + size
            if self._bytes > self.size_bytes:
                self.enforce_store_limits(self.size_bytes * 9 // 10)
                self._bytes = sum(one.size for one in self.get_items())

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Say whether there is an item, without reading it."""
        return self.folder(call_id).exists()

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Delete an item."""
        shutil.rmtree(self.folder(call_id), ignore_errors=True)

    def clear(self) -> None:
        """Delete every item; files that are not items stay."""
        for item in self.get_items():
            shutil.rmtree(item.path, ignore_errors=True)
        self._bytes = 0

    def get_items(self) -> list[Any]:
        """Return joblib's record (path, size, last use) of every item."""
        found = []
        for folder in Path(self.location).glob("[0-9a-f][0-9a-f]/*"):
            with contextlib.suppress(OSError):  # it went meanwhile
                size = sum(path.stat().st_size for path in folder.iterdir())
                used = dt.datetime.fromtimestamp(folder.stat().st_mtime)  # noqa: DTZ006 - joblib compares naive times
                found.append(CacheItemInfo(str(folder), size, used))
        return found

    def clear_location(self, location: str) -> None:
        """Delete one item's folder, or every item if it is the store's own place."""
        if Path(location) == Path(self.location):
            self.clear()
        else:
            shutil.rmtree(location, ignore_errors=True)


register_store_backend(BACKEND, StepItems)
