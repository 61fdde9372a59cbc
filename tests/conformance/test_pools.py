from __future__ import annotations

from typing import ClassVar

from dspex_nb.pools import Pools
from dspex_nb.testing.pool_suite import PoolSuite

ABANDONED = "work in a thread cannot be killed: it is abandoned, its result discarded, and said so"


class TestThreads(PoolSuite):
    backend = "thread"
    separate = False
    partly: ClassVar = {
        "test_cancel_works_on_a_running_task": ABANDONED,
        "test_a_timeout_ends_the_task_and_frees_the_slot": ABANDONED,
    }

    def make_pool(self, size, **options):
        return Pools().create("suite", size, "thread", **options)


class TestProcesses(PoolSuite):
    backend = "loky"

    def make_pool(self, size, **options):
        return Pools().create("suite", size, "loky", **options)
