from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("pool_faults", Path(__file__).parent / "faults.py")
faults = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faults)


def test_random_faults_lose_nothing_and_start_nothing_twice(monkeypatch):
    # The module has no import path of its own, so its functions must cross by value.
    import cloudpickle

    cloudpickle.register_pickle_by_value(_registered())
    try:
        figures = faults.run(40, size=2, seed=3)
    finally:
        cloudpickle.unregister_pickle_by_value(_registered())
    assert figures["not resolved"] == figures["resolved other than once"] == 0
    assert figures["started twice though not idempotent"] == 0
    assert figures["wrong outcome"] == 0
    assert figures["workers at the end"] == 2
    assert figures["run again because idempotent"] > 0


def _registered():
    import sys

    return sys.modules.setdefault("pool_faults", faults)
