"""What only workers in processes of their own can do, as tests; `pool_suite.PoolSuite` has them."""

# ruff: noqa: PLR2004 - the numbers are what the tests expect
from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import SkipTest

from dspex_nb.errors import MemoryLimitError, SessionLostError, TransferError, WorkerDiedError, WorkerHungError
from dspex_nb.events import Bus
from dspex_nb.pools import Pool
from dspex_nb.scopes import Scope
from dspex_nb.testing import pool_acts as acts
from dspex_nb.testing import pool_promises as p
from dspex_nb.testing.pool_promises import promise


class WorkerSuite:
    """One test a promise.

    Attributes:
        backend: The backend's name.
        options: Settings that every pool of it takes, such as a cluster's address.
        separate: Whether its tasks run in other processes.
        gives_devices: Whether it deals out this machine's GPUs by visible devices; if not, `gives_devices_why` says what it does.
        clears_files: Whether temporary files go with a killed kernel, and not with the cluster.
        partly: Why a test that passes shows less than its promise, by the test's name.
    """

    backend = ""
    options: ClassVar[dict[str, Any]] = {}
    separate = True
    gives_devices, gives_devices_why = True, ""
    clears_files = True
    partly: ClassVar[dict[str, str]] = {}

    def make_pool(self, size: int, **options: Any) -> Pool:
        """Return a fresh pool."""
        raise NotImplementedError

    @contextmanager
    def pool(self, size: int = 2, **options: Any) -> Iterator[Pool]:
        """Lend a pool for one test."""
        pool = self.make_pool(size, **options)
        try:
            yield pool
        finally:
            pool.close()

    def needs_processes(self) -> None:
        """Skip a test that threads cannot pass."""
        if not self.separate:
            raise SkipTest("threads share this process")

    def taking(self, *variables: str) -> dict[str, Any]:  # noqa: ARG002 - a cluster's suite needs them
        """Return the settings with which a worker has these variables; on this machine it has all."""
        return {}

    @promise(p.STARTED)
    def test_workers_start_at_first_use_and_are_reused(self) -> None:
        """Nothing runs before; `imports` are there at the first call."""
        self.needs_processes()
        with self.pool(1, imports=["wave"]) as pool:
            assert pool.stats().slots[0].restarts == pool.stats().memory_bytes == 0
            assert pool.call(acts.loaded, "wave")
            assert pool.call(os.getpid) == pool.call(os.getpid)

    @promise(p.PYTHON)
    def test_another_interpreter_is_called_by_import_path(self) -> None:
        """Functions of its own by name; what is not in a module is refused."""
        self.needs_processes()
        with self.pool(1, python=sys.executable) as pool:
            assert pool.call("math:gcd", 12, 18) == 6
            with acts.Raises(TransferError):
                pool.submit(lambda: 1)

    @promise(p.THREADS)
    def test_processor_threads(self) -> None:
        """OpenMP and BLAS are told how many they may have."""
        self.needs_processes()
        with self.pool(1, cpu_threads=3) as pool:
            assert pool.call(acts.environment, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") == ["3", "3"]

    @promise(p.GPUS)
    def test_devices_are_dealt_out(self) -> None:
        """Each slot sees its own."""
        self.needs_processes()
        if not self.gives_devices:
            raise SkipTest(self.gives_devices_why)
        os.environ["CUDA_VISIBLE_DEVICES"], before = "3,5", os.environ.get("CUDA_VISIBLE_DEVICES")
        try:
            with self.pool(2, gpus=True) as pool, pool.session("a") as first, pool.session("b") as second:
                seen = {tuple(each.call(acts.environment, "CUDA_VISIBLE_DEVICES")) for each in (first, second)}
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before
        assert seen == {("3",), ("5",)}

    @promise(p.RECYCLE)
    def test_a_worker_is_replaced_at_its_age(self) -> None:
        """Between two tasks."""
        self.needs_processes()
        with self.pool(1, max_age_s=0.2) as pool:
            pid = pool.call(os.getpid)
            time.sleep(0.25)
            pool.call(os.getpid)
            assert pool.call(os.getpid) != pid

    @promise(p.LOOP)
    def test_a_c_loop_is_ended_by_cancel(self) -> None:
        """One call that never gives the interpreter back."""
        self.needs_processes()
        with self.pool(1) as pool:
            pid = pool.call(os.getpid)
            future = pool.submit(re.match, "(a+)+$", "a" * 60 + "b")
            acts.wait_until(future.running)
            time.sleep(0.1)
            assert future.cancel()
            acts.wait_until(lambda: not acts.alive(pid))
            assert pool.call(acts.double, 2) == 4

    @promise(p.TREE)
    def test_a_tasks_process_tree_ends_with_it(self) -> None:
        """Also what has left the worker's process group."""
        self.needs_processes()
        with self.pool(1) as pool, acts.temporary_folder() as folder:
            future = pool.submit(acts.two_children, f"{folder}/pids")
            acts.wait_until(lambda: os.path.exists(f"{folder}/pids"), 30)  # noqa: PTH110
            pids = [int(word) for word in acts.text_of(f"{folder}/pids").split()[:3]]
            assert all(map(acts.alive, pids))
            assert future.cancel()
            acts.wait_until(lambda: not any(map(acts.alive, pids)))

    @promise(p.KILLED)
    def test_a_segmentation_fault_is_a_typed_error(self) -> None:
        """It names the signal."""
        self.needs_processes()
        with self.pool(1) as pool:
            with acts.Raises(WorkerDiedError) as caught:
                pool.call(acts.segfault)
            assert "SIGSEGV" in caught.error.message
            assert pool.call(acts.double, 2) == 4

    @promise(p.HANG)
    def test_a_hang_is_seen_by_the_missing_heartbeat(self) -> None:
        """A long task is none."""
        self.needs_processes()
        with self.pool(1, heartbeat_s=2.0) as pool:
            pool.call(time.sleep, 2.5)
            with acts.Raises(WorkerHungError):
                pool.call(acts.stop_itself)
            assert pool.call(acts.double, 2) == 4

    @promise(p.SECRETS)
    def test_no_secret_is_seen_from_outside(self) -> None:
        """Neither the command line nor the environment shows one that the worker has."""
        self.needs_processes()
        os.environ["SUITE_TOKEN"] = "sk-never-to-be-seen"  # noqa: S105 - made up
        try:
            with self.pool(1, **self.taking("SUITE_TOKEN")) as pool:
                assert pool.call(acts.environment, "SUITE_TOKEN") == ["sk-never-to-be-seen"]
                assert "never-to-be-seen" not in pool.call(acts.seen_from_outside)
        finally:
            del os.environ["SUITE_TOKEN"]

    @promise(p.ORPHANS)
    def test_nothing_outlives_a_killed_kernel(self) -> None:
        """Neither workers, nor what they started, nor their temporary files."""
        self.needs_processes()
        with acts.temporary_folder() as folder:
            path = f"{folder}/pids"
            script = (
                "from dspex_nb.pools import Pools\nfrom dspex_nb.testing import pool_acts\nimport time\n"
                f"pool = Pools().create('k', 1, {self.backend!r}, **{self.options!r})\n"
                f"pool.submit(pool_acts.two_children, {path!r})\ntime.sleep(60)\n"
            )
            kernel = subprocess.Popen([sys.executable, "-c", script])  # noqa: S603 - our own
            try:
                acts.wait_until(lambda: os.path.exists(path), 120)  # noqa: PTH110
                *words, left = acts.text_of(path).split()
                pids = [int(word) for word in words]
                assert all(map(acts.alive, pids))
            finally:
                kernel.kill()
                kernel.wait()
            acts.wait_until(lambda: not any(map(acts.alive, pids)), 5.0)
            if self.clears_files:
                acts.wait_until(lambda: not os.path.exists(left), 5.0)  # noqa: PTH110

    @promise(p.KILLED)
    def test_a_dead_worker_fails_its_own_task(self) -> None:
        """The task gets a typed error, others go on, the slot has a new worker."""
        self.needs_processes()
        with self.pool(2) as pool:
            list(pool.map(acts.double, range(4)))
            other = pool.submit(time.sleep, 0.2)
            with acts.Raises(WorkerDiedError):
                pool.call(acts.die)
            assert other.result(30) is None
            assert pool.map(acts.double, range(6), return_as="list") == [0, 2, 4, 6, 8, 10]

    @promise(p.IDEMPOTENT)
    def test_only_an_idempotent_task_runs_again(self) -> None:
        """One that was declared so starts anew after its worker died, any other one fails."""
        self.needs_processes()
        with self.pool(1) as pool, acts.temporary_folder() as folder:
            with acts.Raises(WorkerDiedError):
                pool.call(acts.die_once, f"{folder}/a")
            assert acts.text_of(f"{folder}/a") == "s"
            assert pool.options(idempotent=True).call(acts.die_once, f"{folder}/b") == 2
            assert pool.stats().retried == 1

    @promise(p.LOST)
    def test_a_lost_session_is_refused_or_built_anew(self) -> None:
        """Without an initializer its later calls raise SessionLostError, with one they find the state again."""
        self.needs_processes()
        with self.pool(1) as pool:
            with pool.session("a") as session:
                session.call(acts.double, 1)
                with acts.Raises(WorkerDiedError):
                    session.call(acts.die)
                with acts.Raises(SessionLostError):
                    session.call(acts.double, 1)
            with pool.session("b", initializer=acts.remember, initargs=("again", 5)) as session:
                with acts.Raises(WorkerDiedError):
                    session.call(acts.die)
                assert session.call(acts.recall, "again") == 5

    @promise(p.BLEED)
    def test_a_session_leaves_nothing_behind(self) -> None:
        """After it the slot has a new worker: the state reaches nobody else."""
        self.needs_processes()
        with self.pool(1) as pool:
            with pool.session("a") as session:
                pid = session.call(os.getpid)
            assert pool.call(os.getpid) != pid

    @promise(p.MEMORY)
    def test_memory_over_the_limit(self) -> None:
        """The task fails with the figures, the next one finds a fresh worker."""
        self.needs_processes()
        with self.pool(1, memory_bytes=200_000_000) as pool:
            with acts.Raises(MemoryLimitError) as caught:
                pool.call(acts.hoard, 40)
            assert "200 MB" in caught.error.message
            assert pool.call(acts.double, 1) == 2

    @promise(p.UNSENDABLE)
    def test_what_cannot_cross_is_a_typed_error(self) -> None:
        """A call that cannot be sent, a result that cannot be sent back."""
        self.needs_processes()
        with self.pool(1) as pool:
            with acts.Raises(TransferError):
                pool.submit(len, threading.Lock())
            with acts.Raises(TransferError):
                pool.call(threading.Lock)
            assert pool.call(acts.double, 1) == 2

    @promise(p.RECYCLE)
    def test_a_worker_is_replaced_after_its_tasks(self) -> None:
        """`max_tasks` of them."""
        self.needs_processes()
        with self.pool(1, max_tasks=2) as pool:
            pids = [pool.call(os.getpid) for _ in range(4)]
            assert pids[0] == pids[1]
            assert pids[1] != pids[2]
            assert pids[2] == pids[3]

    @promise(p.LOGS)
    def test_what_workers_say_reaches_the_runs_log(self) -> None:
        """Prints, warnings and log records are events of the run, and lines of the pool's log."""
        bus = Bus()
        self.needs_processes()
        with self.pool(1) as pool:
            pool.options(scope=Scope("run", bus, step="talk")).call(acts.chat)
            told = {(event.source, event.step) for event in bus.recent if event.run_id == "run"}  # type: ignore[attr-defined]
            assert told == {("print", "talk"), ("warning", "talk"), ("logging", "talk")}
            assert [line.text for line in pool.log if line.source == "print"] == ["a line"]
