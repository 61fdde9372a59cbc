from __future__ import annotations

import pytest

from dspex_nb.cache import Cache
from dspex_nb.testing.cache_suite import CacheSuite


class TestMemory(CacheSuite):
    def make_cache(self, **options):
        return Cache(**options)


class TestDisk(CacheSuite):
    """Disk alone: with no memory in front, every answer comes from the files."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path / "cache"

    def make_cache(self, **options):
        return Cache(memory_entries=0, directory=self.folder, **options)


class TestMemoryOverDisk(TestDisk):
    def make_cache(self, **options):
        return Cache(memory_entries=3, directory=self.folder, **options)


class TestRedis(CacheSuite):
    """The shared server alone: with neither memory nor files, every answer comes from it."""

    @pytest.fixture(autouse=True)
    def _server(self, shared_redis_server, tmp_path):
        shared_redis_server.ask("FLUSHALL")
        self.url, self.folder = shared_redis_server.url, tmp_path / "cache"

    def make_cache(self, **options):
        return Cache(memory_entries=0, redis_url=self.url, **options)


class TestMemoryOverRedis(TestRedis):
    def make_cache(self, **options):
        return Cache(memory_entries=3, redis_url=self.url, **options)


class TestAllTiers(TestRedis):
    def make_cache(self, **options):
        return Cache(memory_entries=3, directory=self.folder, redis_url=self.url, **options)
