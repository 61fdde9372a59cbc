from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dspex_nb.transport import close_idle


@pytest.fixture(scope="session")
def bad():
    """The misbehaving server of the transport's tests."""
    path = Path(__file__).parents[1] / "transport" / "misbehaving.py"
    spec = importlib.util.spec_from_file_location("misbehaving", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch):
    monkeypatch.setattr("dspex_nb.clients.retries.BASE_S", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OLLAMA_API_BASE", "DSPEX_LOCAL_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    close_idle()
