"""Fixtures of all kinds of tests: a real Redis or Valkey server on loopback, without anything on disk, stopped and hung at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import weakref

import pytest

PASSWORD = "s3cret-Ocelot"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """The server: `url` says where, with its password; `stop`, `start`, `hang` and `wake` are its outages."""

    def __init__(self) -> None:
        self.port, self._process = free_port(), None
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.where = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        options = {"port": self.port, "bind": "127.0.0.1", "requirepass": PASSWORD, "save": "", "appendonly": "no", "dir": "/"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        # The kernel itself ends the server if this process is killed and never comes to `stop`.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen([*guard, program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, "the Redis server did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self.wake()
        self._process.kill()
        self._process.wait(10)

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *command):
        import redis

        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*command)


def started() -> RedisServer:
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        reason = "neither redis-server nor valkey-server is installed (Debian, Ubuntu: apt-get install redis-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = RedisServer()
    server.start()
    return server


@pytest.fixture
def redis_server():
    """A server of this test's own."""
    server = started()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_redis_server():
    """A server for many tests, which empty it before use."""
    server = started()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _ports_without_a_past(monkeypatch):
    """A port may be one that an earlier test's server had: a circuit which that test opened must not refuse this one's calls."""
    from dspex_nb.clients import circuit

    monkeypatch.setattr(circuit, "_circuits", weakref.WeakValueDictionary())
