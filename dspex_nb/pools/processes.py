"""The worker of one slot as a supervised process of its own."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import re
import time
from typing import Any, ClassVar

from dspex_nb.errors import PoolError, TransferError, WorkerDiedError
from dspex_nb.pools.carrying import by_pipe
from dspex_nb.pools.carrying import settings as carried
from dspex_nb.pools.child import ChildProcess, describe_exit
from dspex_nb.pools.memory import tree_rss_bytes
from dspex_nb.pools.scratch import scratch
from dspex_nb.pools.settings import Slot
from dspex_nb.pools.tasks import Task
from dspex_nb.pools.warden import VARIABLE, kill_marked

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|_AUTH|COOKIE", re.IGNORECASE)


class ProcessWorker:
    """Runs tasks in one process, started at the first task and again after it died or was due for replacement."""

    separate: ClassVar[bool] = True

    def __init__(self, slot: Slot) -> None:
        self.name, self.slot = slot.name, slot
        self.generation = 0
        self._child: ChildProcess | None = None
        self._replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._task: Task | None = None
        self._settings: bytes | None = None
        self._killed = self._began = False
        self._why: PoolError | None = None
        self._served, self._since, self._heard_at = 0, 0.0, 0.0

    def pack(self, task: Task) -> tuple[bytes, bytes | None]:
        """Return the call pickled, so that functions of the notebook cross too, and the settings in force."""
        if self.slot.settings.python is not None:
            return _by_import_path(task), None
        import cloudpickle

        token = by_pipe.set(True)
        try:
            return bytes(cloudpickle.dumps((task.fn, task.args, dict(task.kwargs)))), carried.pack()
        except Exception as error:
            raise TransferError(
                f"{task.name}: cannot be sent to a worker process: {error}",
                hint="pass plain data and open files or connections inside the function, or use a pool with backend='thread'",
            ) from error
        finally:
            by_pipe.reset(token)

    def ready(self) -> None:
        """Start a process if none runs."""
        if self._child is not None and self._killed:
            self._child.wait(2.0)  # killed as its task ended: it must not take the next one while it dies
        if self._child is not None and self._child.alive and not self._killed:
            return
        self._start()

    def run(self, task: Task) -> Any:
        """Send the call and wait for its reply."""
        self._task, self._heard_at, self._began = task, time.monotonic(), False
        try:
            reply = self._exchange(task)
        finally:
            self._task = None
        if reply is None or "exit" in reply:
            raise self._died(task, began=reply is not None)
        self._served += 1
        if "error" in reply:
            raise reply["error"]
        return reply["value"]

    def break_off(self, why: PoolError | None = None) -> bool:
        """Kill the process."""
        self._why, self._killed = why, True
        if self._child is not None:
            self._child.kill(wait_s=0)
        return True

    def tend(self, *, leased: bool) -> None:
        """Start a new process where the old one has died; replace one that served its tasks or its time."""
        settings = self.slot.settings
        if self._killed or self._child is None or not self._child.alive:
            self.ready()
        elif not leased and (
            (settings.max_tasks is not None and self._served >= settings.max_tasks)
            or (settings.max_age_s is not None and time.monotonic() - self._since >= settings.max_age_s)
        ):
            self.renew()

    def renew(self) -> None:
        """End the process and start another."""
        self.close()
        self._start()

    def rss_bytes(self) -> int:
        """Return the memory of the process tree."""
        return tree_rss_bytes(self._child.pid) if self._child is not None and self._child.alive else 0

    def silent_s(self) -> float:
        """Return the seconds since its last message in this task."""
        return time.monotonic() - self._heard_at if self._task is not None else 0.0

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.terminate(grace_s=0.5)

    @property
    def pid(self) -> int | None:
        """Its process id, None while none runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def _start(self) -> None:
        settings = self.slot.settings
        marks = scratch.new_mark()
        # Whoever may list processes sees their environment: what looks like a secret goes over the pipe instead.
        secret = {name: value for name, value in os.environ.items() if _SECRET.search(name)}
        environment: dict[str, str | None] = {**self.slot.environment(), **marks, **dict.fromkeys(secret)}
        beat = str(settings.heartbeat_s / 3)
        try:
            child = ChildProcess("dspex_nb.pools.slot", [self.name, beat], env=environment, python=settings.python)
        except OSError as error:
            raise PoolError(
                f"pool {self.slot.pool!r}: its worker cannot be started: {error}", hint="check python= and the free memory"
            ) from error
        # A queue of its own for each process: a late word from a dead one must not answer a later task.
        replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._child, self._replies, self._settings = child, replies, None
        self.generation += 1
        self._killed, self._why, self._served, self._since = False, None, 0, time.monotonic()
        child.on_message(lambda message: self._hear(replies, message))
        child.on_exit(lambda code: replies.put({"exit": code}))
        mark = marks[VARIABLE]
        child.on_exit(lambda _: _clear_up(mark))  # what it started and what left its process group
        with contextlib.suppress(WorkerDiedError):  # the next task finds that out, and why
            child.send({"do": "begin", "environ": secret, "imports": settings.imports})

    def _exchange(self, task: Task) -> dict[str, Any] | None:
        """Return the reply, `{"exit": code}` if the process died in the task, None if it died before it."""
        child, replies = self._child, self._replies
        assert child is not None  # noqa: S101 - ready sets it
        call, settings = task.payload
        try:
            if settings is not None and settings is not self._settings:
                child.send({"do": "settings"}, settings)
                self._settings = settings
            if task.channel is None:
                child.send({"do": "call"}, call)
            else:
                self._connect(task, child)
                child.send({"do": "stream", "window": task.channel.buffer}, call)
        except WorkerDiedError:
            child.wait(2.0)
            return None
        reply = replies.get()
        return reply if self._began else None

    @staticmethod
    def _connect(task: Task, child: ChildProcess) -> None:
        def tell(message: dict[str, Any]) -> None:
            with contextlib.suppress(WorkerDiedError):
                if not task.future.done():
                    child.send(message)

        assert task.channel is not None  # noqa: S101 - see _exchange
        task.channel.grant = lambda count: tell({"do": "more", "count": count})
        task.channel.stop_worker = lambda: tell({"do": "stop"})

    def _hear(self, replies: queue.SimpleQueue[dict[str, Any]], message: dict[str, Any]) -> None:
        """Take a message, in the reader thread of its process."""
        self._heard_at = time.monotonic()
        if "ok" in message:
            replies.put(_delivered(self._task, message))
            return
        if "began" in message:  # only noted: to wake the slot's thread for it would cost as much as the rest of the way
            self._began = self._began or replies is self._replies
            return
        task = self._task
        if task is None or replies is not self._replies:
            return
        if "item" in message and task.channel is not None:
            try:
                task.channel.put(pickle.loads(message["blob"]))  # noqa: S301 - our own worker pickled it
            except Exception as error:  # noqa: BLE001 - told to the reader
                task.future.fail(_unreadable(task, error))
                task.channel.stop()
        elif "log" in message:
            task.said(self.name, *message["log"])
        elif "event" in message:
            _publish(task, message["event"])

    def _died(self, task: Task, *, began: bool) -> PoolError:
        if self._why is not None:
            return self._why
        tail = self._child.tail(500) if self._child else ""
        code = self._child.returncode if self._child else None
        error = WorkerDiedError(
            f"{task.name}: its worker process {describe_exit(code)}{f'; it last printed: {tail}' if tail else ''}",
            hint="the pool goes on with a new worker; if it was killed by the system, give it less data or more memory",
        )
        error.began = began
        return error


def _by_import_path(task: Task) -> bytes:
    """Return a call for an interpreter that shares no code with this one: the function by name, plain data."""
    name = task.fn
    if not isinstance(name, str):
        module, path = getattr(name, "__module__", None), getattr(name, "__qualname__", "<")
        if module in {None, "__main__"} or "<" in path:
            raise TransferError(
                f"{task.name}: a pool with python= calls by import path, and this function is not in a module",
                hint="put it into a .py file, or give its path: pool.submit('package.module:function', …)",
            )
        name = f"{module}:{path}"
    try:
        return pickle.dumps((name, task.args, dict(task.kwargs)), protocol=4)
    except Exception as error:
        raise TransferError(
            f"{task.name}: its arguments cannot be sent to another interpreter: {error}", hint="pass plain data"
        ) from error


def _delivered(task: Task | None, reply: dict[str, Any]) -> dict[str, Any]:
    """Open a reply and resolve the task's future at once: whoever waits for it need not wait for the slot's thread as well."""
    if task is None:
        return {"value": None}
    try:
        value = _open(task, reply)
    except BaseException as error:  # noqa: BLE001 - the task's own
        task.delivered = task.future.fail(error)
        return {"error": error}
    task.delivered = task.future.resolve(value)
    return {"value": value}


def _open(task: Task, reply: dict[str, Any]) -> Any:
    """Return the value in a worker's reply, or raise the error in it."""
    try:
        value = pickle.loads(reply["blob"]) if "blob" in reply else None  # noqa: S301 - our own worker pickled it
    except Exception as error:
        if reply["ok"]:
            raise _unreadable(task, error) from error
        value = None  # an error of a class that is not installed here: its text will do
    if reply["ok"]:
        return value
    if not isinstance(value, BaseException):
        kind = TransferError if reply.get("transfer") else PoolError
        raise kind(f"{task.name}: {reply['text']}", hint="the text above is the worker's; return plain data")
    with contextlib.suppress(Exception):
        value.add_note(f"In the worker process:\n{reply['text']}")
    raise value


def _unreadable(task: Task, error: Exception) -> TransferError:
    return TransferError(
        f"{task.name}: its result cannot be read in this process: {type(error).__name__}: {error}",
        hint="return plain data from the function",
    )


def _publish(task: Task, data: dict[str, Any]) -> None:
    from dspex_nb.events import from_json

    with contextlib.suppress(KeyError, TypeError):  # a kind this version does not know
        if task.scope is None:
            carried.tell(from_json(data))
            return
        here = {"run_id": task.scope.run_id, "step": task.scope.step or data.get("step", "")}
        task.scope.publish(from_json({**data, **here}))


def _clear_up(mark: str) -> None:
    kill_marked(mark)
