"""The worker process of one pool slot: takes a pickled call, sends back its pickled result, one after the other.

Only the standard library is needed here and in what it imports: a pool's `python=` may be an interpreter without our packages.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from dspex_nb.errors import PoolError
from dspex_nb.events import Event, to_json
from dspex_nb.pools import childside, iterating, worker_log
from dspex_nb.pools.carrying import settings


class _Credits:
    """How many more items of a stream may be sent, and whether its reader has gone."""

    def __init__(self) -> None:
        self.left = threading.Semaphore(0)
        self.stopped = False

    def begin(self, window: int) -> None:
        self.left, self.stopped = threading.Semaphore(window), False

    def hear(self, command: dict[str, Any]) -> None:
        if command["do"] == "stop":
            self.stopped = True
        self.left.release(command.get("count", 1))


_credits = _Credits()
_busy = threading.Event()


def tell(event: Event) -> None:
    """Tell the run whose task this worker runs of a call that it made of a model; runs of its own begin and end here only."""
    childside.send({"event": to_json(event)})


def _resolve(fn: Any) -> Callable[..., Any]:
    if not isinstance(fn, str):
        return fn  # type: ignore[no-any-return]
    module, _, path = fn.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found  # type: ignore[no-any-return]


def _call(blob: bytes, finish: Callable[[Any], Any]) -> tuple[bool, Any, str]:
    try:
        fn, args, kwargs = pickle.loads(blob)  # noqa: S301 - the parent pickled it; nothing else can write to this pipe
        return True, finish(_resolve(fn)(*args, **kwargs)), ""
    except SystemExit as error:
        return False, PoolError(f"the task called sys.exit({error.code!r})", hint="return a value instead"), ""
    except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result; the worker goes on
        return False, error, traceback.format_exc()


def _pour(value: Any) -> int:
    """Send the items of what a stream's function gave, each as it comes, while the reader wants them; return how many."""
    items = iterating.each(value)
    count = 0
    try:
        for item in items:
            _credits.left.acquire()
            if _credits.stopped:
                break
            childside.send({"item": count}, _pickled(item))
            count += 1
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
    return count


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - of the notebook: what pickle cannot name, cloudpickle sends whole
        import cloudpickle

        return bytes(cloudpickle.dumps(value))


def _reply(outcome: tuple[bool, Any, str]) -> None:
    ok, value, text = outcome
    try:
        blob = _pickled(value)
        if not ok:
            pickle.loads(blob)  # noqa: S301 - an error whose constructor takes other arguments pickles but does not unpickle
    except Exception as error:  # noqa: BLE001 - what cannot be pickled is told as text
        reason = text if not ok else f"returned a {type(value).__name__}, which cannot be sent back: {error}"
        childside.send({"ok": False, "text": reason, "transfer": ok})
        return
    childside.send({"ok": ok, "text": text}, blob)


def _begin(command: dict[str, Any]) -> None:
    os.environ.update(command["environ"])
    for name in command["imports"]:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - the task that needs it says so
            traceback.print_exc()


def _beat(every_s: float) -> None:
    while True:
        time.sleep(every_s)
        if _busy.is_set():
            childside.send({"beat": True})


def _serve(command: dict[str, Any]) -> None:
    match command["do"]:
        case "begin":
            _begin(command)
        case "settings":
            settings.arrive(command["blob"])
        case do:
            _busy.set()
            childside.send({"began": True})  # from here on the task counts as started: if this process dies, it is not run again
            if do == "stream":
                _credits.begin(command["window"])
            outcome = _call(command["blob"], _pour if do == "stream" else iterating.whole)
            worker_log.flush()
            _busy.clear()
            _reply(outcome)


def main() -> None:
    """Serve calls until the parent closes the pipe. Calls run in the main thread, where signals and GUI libraries work."""
    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    childside.serve(lambda command: _credits.hear(command) if command["do"] in {"more", "stop"} else commands.put(command))
    worker_log.install(lambda source, level, text: childside.send({"log": [source, level, text]}))
    beat_s = float(sys.argv[2])
    if beat_s:
        threading.Thread(target=_beat, args=(beat_s,), name="dspex-heartbeat", daemon=True).start()
    with contextlib.suppress(ImportError):
        importlib.import_module("cloudpickle")  # ahead of the first call, which most likely needs it
    while True:
        _serve(commands.get())


if __name__ == "__main__":
    main()
