"""What a pool promises, in the order of the table in the documentation, and which test shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

STARTED = "Started at first use, imports done ahead, then reused"
SUBMIT = "Functions and classes made on the spot are called; results and typed errors come back"
MAP = "`map` in order and as finished, reading its input only a little ahead"
ASYNC = "Awaited: `submit`, `acall`, `amap`"
PRIORITY = "A higher priority goes first"
QUEUE = "A full queue refuses, and says so"
PYTHON = "Another interpreter (`python=`), called by import path"
STATS = "Slots, queue, tasks done and failed are told"
SESSION = "A session keeps one worker and its state"
TTL = "A session's time to live"
QUOTA = "A quota of sessions"
AFFINITY = "A session without a slot waits or fails fast, by choice"
LOST = "A lost session is a typed error, or rebuilt by its initializer"
STREAM = "A generator's items arrive as they are yielded, in order, its error after them"
BACKPRESSURE = "A generator waits for its reader, and is closed when the reader leaves"
LOGS = "Prints, warnings and log records reach the run's log"
MEMORY = "Memory of the process tree over the limit: that task fails, with the figure"
TIME = "A task over its time fails, the slot goes on"
THREADS = "Processor threads per worker"
GPUS = "GPUs by visible devices"
RECYCLE = "Workers replaced after N tasks or by age"
CANCEL = "Cancel ends a running task; a waiting one never starts"
LOOP = "Cancel ends a running C loop"
TREE = "Cancel ends the task's whole process tree"
BLEED = "Nothing of a session reaches the next"
KILLED = "A worker killed by -9 or a segmentation fault: typed error, new worker"
HANG = "A hang is seen by the missing heartbeat"
UNSENDABLE = "What cannot be sent, or sent back: typed error"
IDEMPOTENT = "A task starts at most once, unless it is declared idempotent"
RESOLVES = "Every future is resolved once, also at the end of the pool"
SETTINGS = "The LM in force travels, with its key"
SECRETS = "No secret in a worker's command line or environment listing"
ORPHANS = "The kernel killed by -9: its workers and their files are gone within 5 s"

PROMISES = [value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)]
"""All of them, in order."""

_Test = TypeVar("_Test", bound=Callable[..., Any])


def promise(text: str) -> Callable[[_Test], _Test]:
    """Say which promise a test shows."""

    def mark(test: _Test) -> _Test:
        test.promise = text  # type: ignore[attr-defined]
        return test

    return mark
