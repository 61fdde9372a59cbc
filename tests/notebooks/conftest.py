"""Makes `notebook_cells` importable, and runs a test module's notebook once for all its tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def executed(request, tmp_path_factory):
    """The module's `NOTEBOOK`, executed with the cell `LAST` behind its own.

    It has a home, and so a cache, of its own: its questions are to be asked, not remembered.
    """
    from notebook_cells import execute

    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_HOME", str(folder / "home"))
        return execute(request.module.NOTEBOOK, folder, request.module.LAST)


@pytest.fixture(scope="module")
def runs(executed):
    """What the cell `RUNS` printed, by run and step."""
    from notebook_cells import steps_by_run

    return steps_by_run(executed)
