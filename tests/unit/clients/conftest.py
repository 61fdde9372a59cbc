from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dspex_nb.transport import close_idle

PROVIDERS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_BASE",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GEMINI_API_BASE",
)


@pytest.fixture(scope="session")
def bad():
    """The misbehaving server of the transport's tests."""
    path = Path(__file__).parents[1] / "transport" / "misbehaving.py"
    spec = importlib.util.spec_from_file_location("misbehaving", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def providers():
    """Servers that check each provider's protocol."""
    spec = importlib.util.spec_from_file_location("provider_servers", Path(__file__).with_name("provider_servers.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch):
    monkeypatch.setattr("dspex_nb.clients.retries.BASE_S", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OLLAMA_API_BASE", "DSPEX_LOCAL_URL", *PROVIDERS):
        monkeypatch.delenv(name, raising=False)
    yield
    close_idle()
