"""A real PostgreSQL server on loopback, in a folder of its own, for one test session."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "s3cret-Elephant"


@dataclass
class Server:
    """How to reach the running server."""

    port: int
    folder: Path

    def dsn(self, user="dspex", password=PASSWORD, database="postgres", port=None):
        return f"postgresql://{user}:{password}@127.0.0.1:{port or self.port}/{database}"


def binaries() -> Path | None:
    """Where initdb and postgres are: on PATH, where pg_config says, or where Debian puts them."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    if shutil.which("pg_config"):
        places.append(Path(subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True).stdout.strip()))
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


def as_ordinary_user(folder: Path) -> list[str]:
    """Return the words before a command that take root's rights away: the server refuses to run with them."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def postgres():
    place = binaries()
    if place is None:
        reason = "PostgreSQL is not installed (Debian, Ubuntu: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="dspex-pg-"))
    process = None
    try:
        before = as_ordinary_user(folder)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        data = folder / "data"
        make = [
            place / "initdb",
            "-D",
            data,
            "-U",
            "dspex",
            "--pwfile",
            folder / "password",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        subprocess.run([*before, *map(str, make)], check=True, capture_output=True, cwd=folder)
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 40,
            "shared_buffers": "16MB",
        }
        run = [
            str(place / "postgres"),
            "-D",
            str(data),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ]
        # The kernel itself ends the server if this process is killed and never comes to the lines below.
        guard = ["setpriv", "--pdeathsig", "QUIT", *before[1:]] if shutil.which("setpriv") else before
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*guard, *run], stdout=log, stderr=log, cwd=folder)
        wait_for(port, process, folder / "log")
        yield Server(port, folder)
    finally:
        if process is not None:
            end(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port, process, log):
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"postgresql://dspex:{PASSWORD}@127.0.0.1:{port}/postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start: {log.read_text(errors='replace')}")
            time.sleep(0.05)
        else:
            return


def end(process):
    process.send_signal(signal.SIGINT)  # "fast": clients are sent away
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # "immediate": its children end themselves; a SIGKILL would leave them
        process.wait(15)


@pytest.fixture
def table():
    """A table name that no other test uses."""
    return f"t_{uuid.uuid4().hex[:12]}"
