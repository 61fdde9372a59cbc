"""The disk tier as a joblib store backend: importing this module makes `joblib.Memory(backend="dspex_json")` work.

Unlike joblib's own it never pickles: results of the cached functions must be JSON-able. The LM cache itself uses `JsonStore`
without joblib, whose import would cost a new process more than a thousand hits.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from joblib import register_store_backend
from joblib._store_backends import CacheItemInfo, StoreBackendBase, StoreBackendMixin

from dspex_nb.cache.store import JsonStore
from dspex_nb.cache.tiers import SIZE_BYTES

BACKEND = "dspex_json"
_KEY = re.compile(r"[0-9a-f]{8,}")


class FolderBackend(StoreBackendBase, StoreBackendMixin):  # type: ignore[misc]  # joblib is untyped
    """What joblib wants of any store that lies in a folder."""

    def create_location(self, location: str) -> None:
        """Make a directory."""
        Path(location).mkdir(parents=True, exist_ok=True)

    def _open_item(self, f: str, mode: str) -> IO[Any]:
        return open(f, mode)  # noqa: PTH123 - joblib's hook returns an open file

    def _item_exists(self, location: str) -> bool:
        return Path(location).exists()

    def _move_item(self, src: str, dst: str) -> None:
        os.replace(src, dst)  # noqa: PTH105 - both are strings here


class JoblibStore(FolderBackend):
    """joblib's interface to a `JsonStore`."""

    def configure(self, location: str, verbose: int = 0, backend_options: Mapping[str, Any] | None = None) -> None:
        """Open the store at `location`; `backend_options` may set `size_bytes`."""
        self.location, self.verbose = str(location), verbose
        self.compress, self.mmap_mode = False, None
        self.store = JsonStore(Path(location), int((backend_options or {}).get("size_bytes", SIZE_BYTES)))

    def load_item(self, call_id: Sequence[str], verbose: int = 1, timestamp: float | None = None, metadata: Any = None) -> Any:
        """Return an item's value.

        Raises:
            KeyError: There is none, or it is unreadable.
        """
        del verbose, timestamp, metadata
        return self.store.load(item_key(call_id))[0]

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:
        """Write a JSON-able item; raises OSError where the disk refuses and TypeError where the item is not JSON-able."""
        del verbose
        self.store.dump(item_key(call_id), item, None)

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Say whether there is an item, without reading it."""
        return Path(self.store.path(item_key(call_id))).exists()

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Delete an item."""
        self.store.discard([item_key(call_id)])

    def clear(self) -> None:
        """Delete every item; files that are not items stay."""
        self.store.clear()

    def get_items(self) -> list[Any]:
        """Return joblib's record (path, size, last access) of every item."""
        return [
            CacheItemInfo(self.store.path(key), size, dt.datetime.fromtimestamp(used))  # noqa: DTZ006 - joblib compares naive times
            for key, size, used, _ in self.store.rows()
        ]

    def clear_location(self, location: str) -> None:
        """Delete one item's file, or every item if it is the store's own place."""
        if Path(location) == Path(self.location):
            self.clear()
        else:
            self.store.discard([Path(location).stem])


def item_key(call_id: Sequence[str]) -> str:
    """One name for joblib's path-like ids; our own calls have a single part."""
    if len(call_id) == 1 and _KEY.fullmatch(call_id[0]):
        return call_id[0]
    return hashlib.sha256("/".join(call_id).encode()).hexdigest()


register_store_backend(BACKEND, JoblibStore)
