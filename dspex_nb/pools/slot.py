"""The worker process of one pool slot: takes a pickled call, sends back its pickled result, one after the other."""

from __future__ import annotations

import pickle
import queue
import traceback
from typing import Any

from dspex_nb.errors import PoolError
from dspex_nb.pools import childside


def _call(blob: bytes) -> tuple[bool, Any, str]:
    try:
        fn, args, kwargs = pickle.loads(blob)  # noqa: S301 - the parent pickled it; nothing else can write to this pipe
        return True, fn(*args, **kwargs), ""
    except SystemExit as error:
        return False, PoolError(f"the task called sys.exit({error.code!r})", hint="return a value instead"), ""
    except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result; the worker goes on
        return False, error, traceback.format_exc()


def _reply(outcome: tuple[bool, Any, str]) -> None:
    import cloudpickle

    ok, value, text = outcome
    try:
        blob = cloudpickle.dumps(value)
        if not ok:
            pickle.loads(blob)  # noqa: S301 - an error whose constructor takes other arguments pickles but does not unpickle
    except Exception as error:  # noqa: BLE001 - what cannot be pickled is told as text
        reason = text if not ok else f"returned a {type(value).__name__}, which cannot be sent back: {error}"
        childside.send({"ok": False, "text": reason})
        return
    childside.send({"ok": ok, "text": text}, blob)


def main() -> None:
    """Serve calls until the parent closes the pipe. Calls run in the main thread, where signals and GUI libraries work."""
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    childside.serve(lambda command: calls.put(command["blob"]))
    while True:
        call = calls.get()
        childside.send({"began": True})  # from here on the task counts as started: if this process dies, it is not run again
        _reply(_call(call))


if __name__ == "__main__":
    main()
