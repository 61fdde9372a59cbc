from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dspex_nb.clients import connect
from dspex_nb.transport import close_idle


@pytest.fixture(scope="session")
def stub_class():
    """The HTTP server of the bridge's tests."""
    path = Path(__file__).parents[1] / "bridge" / "conftest.py"
    spec = importlib.util.spec_from_file_location("bridge_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Stub


@pytest.fixture
def stub(stub_class):
    """A server that numbers its answers: the first request is answered "0"."""
    server = stub_class()
    numbers = iter(range(10_000))
    server.answer = lambda body: str(next(numbers))
    yield server
    server.close()
    close_idle()


@pytest.fixture
def client(stub):
    made = connect("openai/stub", api_base=stub.url, api_key="sk-x", temperature=1.0, num_retries=0)
    yield made
    made.close()
