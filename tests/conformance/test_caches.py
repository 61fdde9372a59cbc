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
