from __future__ import annotations

import pytest

from dspex_nb.transport import close_idle


@pytest.fixture(autouse=True)
def _no_connection_left():
    yield
    close_idle()
