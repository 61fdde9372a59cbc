"""At the far end of a cluster: starts the worker processes of one slot and carries messages between them and the notebook.

The cluster's engine runs an `Agent` as an actor. Only bytes cross: messages as `framing` writes them, so that the engine neither
pickles nor opens what belongs to a task. A worker process is supervised here as it would be on the notebook's own machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from dspex_nb.errors import WorkerDiedError
from dspex_nb.pools.child import ChildProcess
from dspex_nb.pools.framing import read_message, write_message
from dspex_nb.pools.memory import tree_rss_bytes
from dspex_nb.pools.scratch import scratch
from dspex_nb.pools.warden import VARIABLE, kill_marked

_FORGOTTEN_S = 60.0
_LARGE = 1 << 16
_NEWS_BYTES = 4_000_000
_GATHER_S = 0.002  # a stream's items travel together: one by one they would each pay for the whole way

Frame = tuple[Mapping[str, Any], bytes | None]


def packed(frames: list[Frame]) -> bytes:
    """Write messages one after the other."""
    sink = io.BytesIO()
    for message, blob in frames:
        write_message(sink, message, blob)
    return sink.getvalue()


def unpacked(data: bytes) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Read them back."""
    source = io.BytesIO(data)
    while (message := read_message(source)) is not None:
        blob = message.pop("blob", None)
        yield message, blob


class Agent:
    """One slot's supervisor. `tell` takes commands for it and for its processes, `listen` gives what they say.

    Args:
        look_s: Seconds between two looks at a process's memory.
    """

    def __init__(self, look_s: float = 1.0) -> None:
        self._children: dict[int, ChildProcess] = {}
        self._told: dict[int, int] = {}
        self._out: list[Frame] = []
        self._lock = threading.Lock()
        self._news: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard_at = time.monotonic()
        threading.Thread(target=_watch, args=(weakref.ref(self), look_s), name="dspex-agent-watch", daemon=True).start()

    async def tell(self, data: bytes) -> None:
        """Take commands: `start`, `kill` and `end` a process by its number, a message `to` one, `wake` the listener."""
        if len(data) > _LARGE:  # the engine's event loop must not wait for a pipe
            await asyncio.to_thread(self._take, data)
        else:
            self._take(data)

    async def listen(self, wait_s: float = 1.0) -> bytes:
        """Return what the processes have said since the last call, as soon as there is something, within `wait_s`."""
        self._heard_at = time.monotonic()
        if self._news is None:
            self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        if not self._out:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait_s)
        if self._out and all("item" in message.get("message", ()) for message, _ in self._out):
            await asyncio.sleep(_GATHER_S)
        with self._lock:
            self._news.clear()
            out, self._out = self._out, []
        return packed(out)

    def _take(self, data: bytes) -> None:
        for message, blob in unpacked(data):
            number = message["to"]
            if "start" in message:
                self._start(number, message["start"])
            elif "wake" in message:
                self._say({"from": number})
            elif (child := self._children.get(number)) is None:
                continue
            elif "kill" in message:
                child.kill(wait_s=0)
            elif "end" in message:
                threading.Thread(target=child.terminate, args=(message["end"],), daemon=True).start()
            else:
                with contextlib.suppress(WorkerDiedError):  # its exit is on the way up
                    child.send(message["message"], blob)

    def _start(self, number: int, wanted: Mapping[str, Any]) -> None:
        marks = scratch.new_mark()
        files = tempfile.mkdtemp(prefix=f"{number}-", dir=marks["TMPDIR"])  # its own: they go with it, this process stays
        marks["TMPDIR"] = files
        try:
            child = ChildProcess(wanted["module"], wanted["args"], env={**wanted["env"], **marks}, python=wanted["python"])
        except OSError as error:
            self._say({"from": number, "failed": str(error)})
            return
        self._children[number] = child
        me = weakref.ref(self)  # a process that runs on must not keep an agent that nobody wants any more
        self._say({"from": number, "pid": child.pid})
        child.on_message(lambda message: _tell(me, number, message))
        child.on_exit(lambda code: _ended(me, number, code, marks[VARIABLE], files))

    def _say(self, message: Mapping[str, Any], blob: bytes | None = None) -> None:
        with self._lock:
            self._out.append((message, blob))
            first = len(self._out) == 1
        if first and self._news is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the engine ends
                self._loop.call_soon_threadsafe(self._news.set)

    def _look(self) -> None:
        """Tell of memory that changed; end all if nobody has listened for long."""
        for number, child in list(self._children.items()):
            taken = tree_rss_bytes(child.pid)
            if abs(taken - self._told.get(number, 0)) > _NEWS_BYTES:
                self._told[number] = taken
                self._say({"from": number, "rss": taken})
        if time.monotonic() - self._heard_at > _FORGOTTEN_S:
            self._end()

    def _end(self) -> None:
        for child in list(self._children.values()):
            child.kill(wait_s=0)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._end()


def _tell(me: weakref.ref[Agent], number: int, message: dict[str, Any]) -> None:
    agent = me()
    if agent is not None:
        blob = message.pop("blob", None)
        agent._say({"from": number, "message": message}, blob)  # noqa: SLF001 - its own


def _ended(me: weakref.ref[Agent], number: int, code: int, mark: str, files: str) -> None:
    kill_marked(mark)  # what it started and what left its process group
    shutil.rmtree(files, ignore_errors=True)
    agent = me()
    if agent is not None:
        child = agent._children.pop(number, None)  # noqa: SLF001 - its own
        agent._say({"from": number, "exit": code, "tail": child.tail() if child else ""})  # noqa: SLF001


def _watch(me: weakref.ref[Agent], look_s: float) -> None:
    while True:
        time.sleep(look_s)
        agent = me()
        if agent is None:
            return
        agent._look()  # noqa: SLF001 - its own
        del agent
