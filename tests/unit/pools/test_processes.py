from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest

from dspex_nb.errors import PoolError, WorkerDiedError
from dspex_nb.pools import Pools
from dspex_nb.pools.processes import ProcessWorker


@pytest.fixture
def pools():
    registry = Pools()
    yield registry
    registry.close()


def die(code=None):
    if code is None:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code)


def test_a_worker_that_dies_fails_its_own_task_only(pools):
    pool = pools.create("p", 2, "loky")
    pids = set(pool.map(lambda _: (time.sleep(0.05), os.getpid())[1], range(4)))
    other = pool.submit(time.sleep, 0.15)
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        pool.submit(die).result(30)
    assert other.result(30) is None
    assert pool.submit(os.getpid).result(30) not in {os.getpid(), None}
    assert len(pids) == 2


def test_a_worker_killed_while_idle_costs_no_task(pools):
    pool = pools.create("p", 1, "loky")
    pid = pool.submit(os.getpid).result(30)
    os.kill(pid, signal.SIGKILL)
    assert pool.submit(os.getpid).result(30) != pid


def test_the_start_of_a_worker_is_not_the_tasks_time(pools, monkeypatch):
    pool = pools.create("p", 1, "loky", timeout_s=1)
    pool.warm()
    start = ProcessWorker.ready
    monkeypatch.setattr(ProcessWorker, "ready", lambda self: (time.sleep(1.5), start(self)))
    assert pool.call(abs, -3) == 3


def test_a_session_whose_worker_died_says_so(pools):
    pool = pools.create("p", 1, "loky")
    with pool.session("s") as session:
        session.call(os.getpid)
        with pytest.raises(WorkerDiedError):
            session.call(die)
        with pytest.raises(WorkerDiedError, match="state"):
            session.call(os.getpid)
    with pool.session("s") as session:
        assert session.call(os.getpid) > 0


def test_functions_of_the_notebook_keep_state_in_a_session(tmp_path):
    script = textwrap.dedent("""
        from dspex_nb.pools import Pools

        FACTOR = 2
        def load(start):
            global index
            index = [start]
        def add(x):
            index.append(x * FACTOR)
            return index
        class Word(str):
            def loud(self):
                return self.upper()

        pools = Pools()
        pool = pools.create("p", 1, "loky")
        with pool.session("s", initializer=load, initargs=(1,)) as session:
            session.call(add, 2)
            FACTOR = 10
            print(session.call(add, 3), session.call(Word.loud, Word("a")))
        try:
            pool.call(add, 4)
        except NameError as error:
            print(error)
        pools.close()
    """)
    (tmp_path / "notebook.py").write_text(script)
    done = subprocess.run([sys.executable, str(tmp_path / "notebook.py")], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[1, 4, 30] A", "name 'index' is not defined"], done.stderr


def test_two_calls_sent_ahead_do_not_straddle_a_dead_worker(pools):
    pool = pools.create("p", 1, "loky")
    with pool.session("s") as session:
        first, second = session.submit(die), session.submit(os.getpid)
        with pytest.raises(WorkerDiedError):
            first.result(30)
        with pytest.raises(WorkerDiedError, match="state"):
            second.result(30)


def test_what_cannot_cross_is_refused_with_the_next_act(pools):
    pool = pools.create("p", 1, "loky")
    with pytest.raises(PoolError, match="cannot be sent") as caught:
        pool.submit(len, threading.Lock())
    assert "backend='thread'" in caught.value.hint
    with pytest.raises(PoolError, match="cannot be sent back"):
        pool.submit(threading.Lock).result(30)


class TakesTwoError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def fail_oddly():
    raise TakesTwoError("an", "error")


def test_errors_cross_with_the_workers_traceback(pools):
    pool = pools.create("p", 1, "loky")
    with pytest.raises(ZeroDivisionError) as caught:
        pool.submit(lambda: 1 / 0).result(30)
    assert "In the worker process" in caught.value.__notes__[0]
    with pytest.raises(PoolError, match="TakesTwoError: an error"):
        pool.submit(fail_oddly).result(30)
    with pytest.raises(PoolError, match=r"sys\.exit\(3\)"):
        pool.submit(sys.exit, 3).result(30)


def test_prints_in_a_worker_do_not_break_the_channel(pools, capfd):
    pool = pools.create("p", 1, "loky")
    assert pool.submit(lambda: (print("noise"), os.write(1, b"noise\n"), 5)[2]).result(30) == 5
    assert capfd.readouterr().out == ""


def test_context_variables_follow_into_threads(pools):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("mine")
    assert pools.create("t", 1, "thread").submit(variable.get).result(5) == "mine"


def test_a_task_may_use_its_own_thread_pool(pools):
    pool = pools.create("t", 1, "thread")
    assert pool.submit(lambda: pool.submit(lambda: 7).result(5)).result(5) == 7
    deep = pools.create("t2", 2, "thread")

    def tree(depth):
        return 1 if depth == 0 else sum(f.result(5) for f in [deep.submit(tree, depth - 1) for _ in range(2)])

    assert deep.submit(tree, 4).result(10) == 16


def test_the_registry_names_what_it_has(pools):
    pools.create("modules", 1)
    with pytest.raises(PoolError) as caught:
        pools.get("module")
    assert "did you mean 'modules'" in caught.value.hint
    with pytest.raises(PoolError, match="backend 'tread'") as caught:
        pools.create("x", 1, "tread")
    assert "'thread'" in caught.value.hint
    with pytest.raises(PoolError, match="size is 0"):
        pools.create("x", 0)
    old = pools.get("modules")
    assert pools.create("modules", 2) is pools.get("modules")
    assert old.closed


def test_workers_die_with_the_kernel():
    script = textwrap.dedent("""
        import os, time
        from dspex_nb.pools import Pools
        pool = Pools().create("p", 2, "loky")
        futures = [pool.submit(lambda: (time.sleep(0.05), os.getpid())[1]) for _ in range(2)]
        print(*[f.result() for f in futures], flush=True)
        for _ in range(2):
            pool.submit(time.sleep, 60)
        time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
