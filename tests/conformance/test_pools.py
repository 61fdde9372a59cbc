from __future__ import annotations

from dspex_nb.pools import Pools
from dspex_nb.testing.pool_suite import PoolSuite


class TestThreads(PoolSuite):
    def make_pool(self, size, **options):
        return Pools().create("suite", size, "thread", **options)


class TestProcesses(PoolSuite):
    def make_pool(self, size, **options):
        return Pools().create("suite", size, "loky", **options)
