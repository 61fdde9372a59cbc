"""What happens on real clusters besides the suite: maps and evaluations, lost workers, no room, separate networks."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

import dspex_nb as dx
from dspex_nb import ambient
from dspex_nb.ambient import Session
from dspex_nb.errors import PoolError, WorkerDiedError
from dspex_nb.pools import Pools
from dspex_nb.testing import pool_acts as acts

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

ROWS = [{"text": "a" * number} for number in range(1, 13)]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A session of its own."""
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    monkeypatch.setattr(ambient, "_root", Session())
    now = dx.session()
    yield now
    now.pools.close()
    now.store.close()


@pytest.fixture
def pools():
    registry = Pools()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def dask_cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def size(text):
    return len(text)


def where(text):
    return os.getpid()


def right(example, prediction, trace=None):
    return prediction.size == len(example.text)


def check_a_map_and_an_evaluation(backend, **options):
    pool = dx.pool("far", 2, backend, **options)
    pipe = dx.Pipeline("p", size=dx.native(size, text=dx.field("text")), at=dx.native(where, text=dx.field("text")))
    here, there = pipe.map(ROWS, live=False), pipe.map(ROWS, live=False, backend=backend)
    assert there.drop(columns="at").equals(here.drop(columns="at"))
    assert os.getpid() not in set(there["at"])
    scored = dx.evaluate(pipe, [{**row, "size": len(row["text"])} for row in ROWS], metrics=right, backend=backend)
    assert scored.score == 1.0
    assert pool.stats().done >= 2 * len(ROWS) - 1
    assert dx.session().pools.names() == ["far"]  # the one that is there was used


def test_a_map_and_an_evaluation_on_dask(notebook, dask_cluster):
    check_a_map_and_an_evaluation("dask", address=dask_cluster.scheduler_address)


def test_a_map_and_an_evaluation_on_ray(notebook):
    pytest.importorskip("ray")
    check_a_map_and_an_evaluation("ray")


@pytest.fixture
def ray_address(monkeypatch, tmp_path):
    """A Ray that was started apart, on loopback, and asks for a token: where its clients connect."""
    pytest.importorskip("ray")
    pytest.importorskip("grpc")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    folder = tempfile.mkdtemp(prefix="dspex-ray-")  # not pytest's: the names of sockets in it must be short
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in (one, other)]
    command = f"start --head --block --node-ip-address=127.0.0.1 --port={ports[0]} --ray-client-server-port={ports[1]}"
    command += f" --num-cpus=2 --include-dashboard=false --disable-usage-stats --temp-dir={folder}"
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    log = tmp_path / "head"
    with log.open("wb") as out:
        start = [*guard, sys.executable, "-m", "ray.scripts.scripts", *command.split()]
        head = subprocess.Popen(start, stdout=out, stderr=subprocess.STDOUT)
    try:
        acts.wait_until(lambda: head.poll() is not None or "Ray runtime started" in log.read_text(), 120)
        assert head.poll() is None, log.read_text()
        yield f"ray://127.0.0.1:{ports[1]}"
    finally:
        head.terminate()
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_ray_that_was_started_apart(ray_address, tmp_path):
    """A notebook reaches it as a client, and nothing there outlives that notebook."""
    path = str(tmp_path / "pids")
    script = f"""
from dspex_nb.pools import Pools
from dspex_nb.testing import pool_acts as acts
pool = Pools().create("apart", 1, "ray", address={ray_address!r})
with pool.session("s", initializer=acts.remember, initargs=("k", 7)) as session:
    assert session.call(acts.recall, "k") == 7
assert list(pool.stream(acts.count, 1000)) == list(range(1000))
pool.call(acts.two_children, {path!r})
"""
    kernel = subprocess.Popen([sys.executable, "-c", script])
    try:
        acts.wait_until(lambda: kernel.poll() is not None or os.path.exists(path), 120)
        *words, left = acts.text_of(path).split()
        pids = [int(word) for word in words]
        assert all(map(acts.alive, pids))
    finally:
        kernel.kill()
        kernel.wait()
    acts.wait_until(lambda: not any(map(acts.alive, pids)) and not os.path.exists(left), 5)


def test_a_cluster_that_is_started_here_ends_with_its_pool(pools):
    pytest.importorskip("distributed")
    pool = pools.create("own", 2, "dask")
    parent = pool.call(os.getppid)
    assert acts.alive(parent)
    pool.close()
    acts.wait_until(lambda: not acts.alive(parent), 15)


def test_the_notebooks_own_client_is_used_and_stays(pools, dask_cluster):
    from distributed import Client

    with Client(dask_cluster) as client:
        pool = pools.create("mine", 1, "dask")
        parent = pool.call(os.getppid)
        assert parent in {worker.pid for worker in dask_cluster.workers.values()} | set(client.run(os.getpid).values())
        pool.close()
        assert client.submit(size, "abc").result(20) == 3


def test_a_lost_cluster_worker_is_a_typed_error_and_nothing_starts_twice(pools, dask_cluster, tmp_path):
    pool = pools.create("lost", 2, "dask", address=dask_cluster.scheduler_address)
    pool.warm()
    path = str(tmp_path / "starts")
    future = pool.submit(note_and_sleep, path, 60)
    acts.wait_until(lambda: os.path.exists(path), 20)
    agent = int(acts.text_of(path).split()[0])
    os.kill(agent, signal.SIGKILL)  # Dask's own worker, in which the slot's agent lives
    with pytest.raises(WorkerDiedError):
        future.result(60)
    assert len(acts.text_of(path).split()) == 1
    again = pool.options(idempotent=True).submit(note_and_sleep, str(tmp_path / "again"), 1)
    acts.wait_until(lambda: os.path.exists(tmp_path / "again"), 60)
    assert again.result(60) == 1
    assert pool.map(acts.double, range(8), return_as="list") == [2 * number for number in range(8)]


def note_and_sleep(path, seconds):
    with open(path, "a") as file:
        file.write(f"{os.getppid()}\n")
    time.sleep(seconds)
    return seconds


def test_a_wish_that_no_worker_can_grant(pools, dask_cluster):
    pool = pools.create("gpu", 1, "dask", address=dask_cluster.scheduler_address, gpus=1, start_s=2)
    with pytest.raises(PoolError, match="no place for a slot with GPU=1") as caught:
        pool.call(size, "a")
    assert "1 thread(s), no resources" in caught.value.message  # a worker; one may be on its way back
    assert "add workers" in caught.value.hint


def test_nobody_at_the_address(pools):
    pytest.importorskip("distributed")
    import dask
    from distributed import Client  # noqa: F401 - loads its configuration

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        pool = pools.create("gone", 1, "dask", address="tcp://127.0.0.1:9")
        with pytest.raises(PoolError, match="cannot be reached"):
            pool.call(size, "a")


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def networks():
    """Two network namespaces, each joined to this one by a wire of its own: (name, our address, its address)."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    made = []
    try:
        for number in (1, 2):
            name, ours, theirs = (
                f"dspex{os.getpid() % 10000}n{number}",
                f"dx{os.getpid() % 10000}a{number}",
                f"dx{os.getpid() % 10000}b{number}",
            )
            try:
                run("ip", "netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"this machine makes no network namespace: {error.stderr.decode().strip()}")
            made.append((name, f"10.213.{number}.1", f"10.213.{number}.2", ours))
            run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
            run("ip", "addr", "add", f"10.213.{number}.1/24", "dev", ours)
            run("ip", "link", "set", ours, "up")
            for command in (
                f"addr add 10.213.{number}.2/24 dev {theirs}",
                f"link set {theirs} up",
                "link set lo up",
                f"route add default via 10.213.{number}.1",
            ):
                run("ip", "-n", name, *command.split())
        yield [(name, ours, theirs) for name, ours, theirs, _ in made]
    finally:
        for name, _, _, wire in made:
            subprocess.run(["ip", "link", "del", wire], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def host_name_of(text):
    """Return the addresses of this process's network."""
    return subprocess.run(["ip", "-4", "-o", "addr"], check=True, capture_output=True, text=True).stdout


def test_workers_in_networks_of_their_own(pools, networks, tmp_path):
    """They reach the scheduler, not the notebook's loopback; the notebook reaches them through the scheduler only."""
    distributed = pytest.importorskip("distributed")
    file, started = tmp_path / "s.json", []
    try:
        scheduler = [
            sys.executable,
            "-m",
            "distributed.cli.dask_scheduler",
            "--host",
            "0.0.0.0",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(file),
        ]
        started.append(subprocess.Popen(scheduler, stderr=subprocess.DEVNULL))
        acts.wait_until(lambda: file.exists() and file.read_text().endswith("}"), 60)
        port = json.loads(file.read_text())["address"].rsplit(":", 1)[1]
        for name, ours, theirs in networks:
            worker = [
                "ip",
                "netns",
                "exec",
                name,
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                f"tcp://{ours}:{port}",
                "--host",
                theirs,
                "--nthreads",
                "1",
                "--no-dashboard",
            ]
            started.append(subprocess.Popen(worker, stderr=subprocess.DEVNULL))
        with distributed.Client(f"tcp://127.0.0.1:{port}", set_as_default=False) as client:
            client.wait_for_workers(len(networks), 60)
        pool = pools.create("apart", 2, "dask", address=f"tcp://127.0.0.1:{port}")
        with pool.session("a") as first, pool.session("b") as second:
            seen = [first.call(host_name_of, ""), second.call(host_name_of, "")]
        assert sorted(address for text in seen for address in ("10.213.1.2", "10.213.2.2") if address in text) == [
            "10.213.1.2",
            "10.213.2.2",
        ]
        assert list(pool.stream(acts.count, 1000)) == list(range(1000))
        future = pool.submit(time.sleep, 60)
        acts.wait_until(future.running)
        assert future.cancel()
        assert pool.map(acts.double, range(6), return_as="list") == [0, 2, 4, 6, 8, 10]
    finally:
        pools.close()
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
