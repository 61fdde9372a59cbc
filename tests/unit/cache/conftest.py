from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dspex_nb.clients import connect
from dspex_nb.transport import close_idle


@pytest.fixture
def stub(model_server):
    """A server that numbers its answers: the first request is answered "0"."""
    numbers = iter(range(10_000))
    yield model_server(lambda body: str(next(numbers)))
    close_idle()


@pytest.fixture
def client(stub):
    made = connect("openai/stub", api_base=stub.url, api_key="sk-x", temperature=1.0, num_retries=0)
    yield made
    made.close()


@pytest.fixture
def small(tmp_path):
    """A file system of its own, 256 kB large, where this machine allows one; `RLIMIT_FSIZE` fills a disk everywhere else."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounts a small file system: needs root")
    place = tmp_path / "mounted"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no right to mount here: {made.stderr.strip()}")  # a container's root often has none; -ra tells
    yield place
    subprocess.run(["umount", "-l", place], check=False)
