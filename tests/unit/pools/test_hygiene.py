"""What a pool may leave behind, and what others may see of it: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from dspex_nb.errors import PoolError, TransferError
from dspex_nb.pools import Pools

SECRET = "sk-never-to-be-seen"


@pytest.fixture
def pools():
    registry = Pools()
    yield registry
    registry.close()


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def two_children():
    """Start one process in the worker's group and one that has left it; return their ids and the worker's."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]
    return [os.getpid(), *(each.pid for each in started)]


def note_and_sleep(path):
    Path(path).write_text(" ".join(map(str, two_children())))
    time.sleep(60)


def read_when_there(path):
    wait_for(lambda: path.exists() and len(path.read_text().split()) == 3)
    return [int(word) for word in path.read_text().split()]


def test_a_secret_is_in_the_worker_but_not_in_its_environment_or_command_line(pools, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("MY_TOKEN", SECRET)
    pool = pools.create("p", 1, "loky")

    def look():
        return os.getpid(), os.environ["OPENAI_API_KEY"], os.environ["MY_TOKEN"]

    pid, *found = pool.call(look)
    assert found == [SECRET, SECRET]
    process = psutil.Process(pid)
    assert SECRET not in " ".join(process.cmdline())
    assert SECRET not in str(process.environ())


def test_the_process_tree_of_a_killed_worker_ends_with_it(pools, tmp_path):
    pool = pools.create("p", 1, "loky")
    pool.call(os.getpid)
    pool.submit(note_and_sleep, str(tmp_path / "pids"))
    pids = read_when_there(tmp_path / "pids")
    assert all(map(alive, pids))
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids)), 1.0)
    assert pool.call(os.getpid) not in pids


@pytest.mark.parametrize("children_too", [False, True])  # a process that is an actor of Ray's kills its own when it ends
def test_nothing_outlives_a_killed_kernel(tmp_path, children_too):
    script = textwrap.dedent(f"""
        import os, sys, tempfile, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from dspex_nb.pools import Pools
        def work(path):
            import subprocess
            command = [sys.executable, "-c", "import time; time.sleep(60)"]
            started = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]
            file = tempfile.NamedTemporaryFile(delete=False)
            file.write(b"left behind"); file.flush()
            open(path, "w").write(" ".join(map(str, [os.getpid(), *(each.pid for each in started)])))
            open(path + ".file", "w").write(file.name)
            time.sleep(60)
        Pools().create("p", 1, "loky").submit(work, {str(tmp_path / "pids")!r}).result()
    """)
    kernel = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)})
    pids = read_when_there(tmp_path / "pids")
    wait_for((tmp_path / "pids.file").exists)
    left = Path((tmp_path / "pids.file").read_text())
    assert left.exists()
    assert all(map(alive, pids))
    if children_too:
        kernel.send_signal(signal.SIGSTOP)
        for child in psutil.Process(kernel.pid).children():
            child.kill()
    kernel.kill()
    kernel.wait()
    wait_for(lambda: not any(map(alive, pids)) and not left.parent.exists(), 5.0)
    assert not list(tmp_path.glob("dspex-*"))


def test_another_interpreter_is_called_by_import_path(pools, tmp_path, monkeypatch):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (venv / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "only_there.py").write_text(
        "import sys\ndef prefix(x): return sys.prefix, x + 1\ndef torn(): raise LookupError('no luck')\n"
    )
    monkeypatch.setenv("MY_TOKEN", SECRET)
    pool = pools.create("r", 1, "loky", python=str(venv / "bin" / "python"))
    assert pool.call("only_there:prefix", 1) == (str(venv), 2)
    assert list(pool.stream("itertools:repeat", 7, 3)) == [7, 7, 7]
    assert pool.call(os.getenv, "MY_TOKEN") == SECRET
    with pytest.raises(LookupError, match="no luck"):
        pool.call("only_there:torn")
    with pytest.raises(ModuleNotFoundError):
        pool.call("cloudpickle:dumps", 1)  # the kernel's packages are not the other interpreter's
    with pytest.raises(TransferError, match="import path"):
        pool.submit(lambda: 1)
    broken = pools.create("b", 1, "loky", python="/no/such/python")
    with pytest.raises(PoolError, match="cannot be started"):
        broken.call(len, "")


def test_workers_are_warmed_and_kept_to_their_processors_and_devices(pools, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    def look():
        return "wave" in sys.modules, os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"]

    pool = pools.create("p", 2, "loky", imports=["wave"], cpu_threads=3, gpus=True).warm()
    with pool.session("a") as first, pool.session("b") as second:
        assert {first.call(look), second.call(look)} == {(True, "3", "3"), (True, "3", "5")}
    with pytest.raises(PoolError, match="2 can be seen"):
        pools.create("q", 1, "loky", gpus=4)
    assert pools.create("q", 1, "loky", gpus=0).call(look)[2] == ""
    with pytest.raises(PoolError, match="threads share"):
        pools.create("t", 1, "thread", memory_bytes=10**9)
    with pytest.raises(PoolError, match="no setting 'memory'") as caught:
        pools.create("t", 1, "loky", memory=1)
    assert "memory_bytes" in caught.value.hint


def test_the_named_pools(pools):
    from dspex_nb.pools.settings import processors

    assert pools.names() == []
    optimizers = pools.get("optimizers")
    assert (optimizers.backend, optimizers.settings.memory_bytes) == ("loky", 4 * 1024**3)
    assert 1 <= optimizers.size <= 2
    assert pools.get("modules").size == min(8, processors())
    assert pools.get("retrievers").settings.gpus is not None
    assert pools.get("multimodal").settings.memory_bytes == 8 * 1024**3
    assert pools.create("mine", backend="loky").size == processors()


def test_an_interrupt_ends_the_task_and_says_so_of_threads(pools):
    import threading

    def press_stop_while(work):
        timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            work()
        return time.monotonic() - start

    processes, threads = pools.create("p", 1, "loky"), pools.create("t", 1)
    pid = processes.call(os.getpid)
    assert press_stop_while(lambda: processes.call(time.sleep, 10)) < 1.2
    wait_for(lambda: not alive(pid), 1.0)
    with pytest.warns(RuntimeWarning, match="abandoned"):
        assert press_stop_while(lambda: threads.call(time.sleep, 3)) < 1.2
    assert threads.call(len, "ab") == 2
