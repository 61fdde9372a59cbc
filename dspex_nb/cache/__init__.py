"""Answers kept: memory over disk over a shared server, keyed by the canonical request. Layout on disk: see `store.py`."""

from dspex_nb.cache.keys import digest, request_key
from dspex_nb.cache.paying import waits
from dspex_nb.cache.records import CacheStats, Hit
from dspex_nb.cache.tiers import Cache

__all__ = ["Cache", "CacheStats", "Hit", "digest", "request_key", "waits"]
