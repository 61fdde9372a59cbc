"""Fixtures of tests that go through the session: its own home, its own root, its own shell."""

import pytest

from dspex_nb import ambient
from dspex_nb.testing.shell import TestingShell


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A session nobody has used, with its cache and run store under `tmp_path`; gives that folder."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DSPEX_HOME", str(folder))
    monkeypatch.setattr(ambient, "_root", ambient.Session())
    yield folder
    used = ambient._root
    if used.pools is not None:
        used.pools.close()
    if used.store is not None:
        used.store.close()


@pytest.fixture
def shell(fresh):
    with TestingShell() as running:
        yield running
