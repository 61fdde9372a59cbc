"""How a call is pickled for a worker: as cloudpickle does, but functions of the notebook share one namespace there.

cloudpickle gives each unpickled function globals of its own, so what one call leaves in a global the next would not find, and a
session could keep no state that the notebook's own functions made. Here they all get the worker's namespace: a global that only
the worker has stays, one that the notebook has too arrives with each call anew.
"""

from __future__ import annotations

import io
import sys
from typing import Any

_namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}


def worker_namespace() -> dict[str, Any]:
    """Return this worker's namespace."""
    return _namespace


class _Namespace(dict[str, Any]):
    """Stands for the notebook's globals in a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return worker_namespace, ()


def dumps(value: Any) -> bytes:
    """Return the value pickled."""
    import cloudpickle

    sink = io.BytesIO()
    pickler = cloudpickle.CloudPickler(sink)
    pickler.globals_ref[id(sys.modules["__main__"].__dict__)] = _Namespace(__name__="__main__")
    pickler.dump(value)
    return sink.getvalue()
