"""Two kinds of worker behind one port: this process's threads, and supervised processes."""

from __future__ import annotations

import contextlib
import pickle
import queue
from typing import Any, ClassVar, Protocol

from dspex_nb.errors import PoolError, WorkerDiedError
from dspex_nb.pools.child import ChildProcess, describe_exit
from dspex_nb.pools.tasks import Task


class Worker(Protocol):
    """What one slot of a pool runs its tasks with. `run` and `close` are called in the slot's own thread.

    Attributes:
        separate: Whether tasks run in another process, so that arguments cross by value and the task can be killed.
        generation: Counts restarts; state that tasks left in the worker is gone when it changes.
    """

    separate: ClassVar[bool]
    generation: int

    def pack(self, task: Task) -> Any:
        """Return what `run` needs, made in the submitting thread; raises PoolError if the task cannot cross."""
        ...

    def ready(self) -> None:
        """Make sure a worker is there, so that `generation` is that of the worker `run` will use."""
        ...

    def run(self, task: Task) -> Any:
        """Make the call and return its value, or raise its error."""
        ...

    def break_off(self) -> bool:
        """End the current task from another thread; False if that is impossible, so its thread must be abandoned."""
        ...

    def close(self) -> None:
        """Free what the worker holds."""
        ...


class ThreadWorker:
    """Runs tasks in the slot's own thread, with the context variables of the submitter."""

    separate: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.generation = 0

    def pack(self, task: Task) -> None:
        """Return nothing: the task is in this process already."""

    def ready(self) -> None:
        """Return at once."""

    def run(self, task: Task) -> Any:
        """Make the call."""
        return task.context.run(task.fn, *task.args, **task.kwargs)

    def break_off(self) -> bool:
        """Return False: a thread cannot be killed."""
        self.generation += 1
        return False

    def close(self) -> None:
        """Return at once."""


class ProcessWorker:
    """Runs tasks in one supervised process of its own, started at the first task and again after it died."""

    separate: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.generation = 0
        self._child: ChildProcess | None = None
        self._replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._killed = False

    def pack(self, task: Task) -> bytes:
        """Return the call pickled with cloudpickle, so that functions of the notebook cross too."""
        import cloudpickle

        try:
            return bytes(cloudpickle.dumps((task.fn, task.args, dict(task.kwargs))))
        except Exception as error:
            raise PoolError(
                f"{task.name}: cannot be sent to a worker process: {error}",
                hint="pass plain data and open files or connections inside the function, or use a pool with backend='thread'",
            ) from error

    def ready(self) -> None:
        """Start a process if none runs."""
        if self._child is not None and self._killed:
            self._child.wait(2.0)  # killed as its task ended: it must not take the next one while it dies
        if self._child is not None and self._child.alive:
            return
        self.generation += 1
        self._killed = False
        # A queue of its own for each process: a late word from a dead one must not answer a later task.
        replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        child = ChildProcess("dspex_nb.pools.slot", [self.name])
        child.on_message(replies.put)
        child.on_exit(lambda code: replies.put({"exit": code}))
        self._child, self._replies = child, replies

    def run(self, task: Task) -> Any:
        """Send the call and wait for its reply."""
        reply = self._exchange(task)
        if reply is None:
            # The process died while idle, before it said that it had begun: the task has not started, a fresh one may take it.
            if task.lane is not None or task.future.done():  # but a session's state is gone, or the task was broken off
                raise self._died(task)
            self.ready()
            reply = self._exchange(task)
        if reply is None or "exit" in reply:
            raise self._died(task)
        return _open(task, reply)

    def _exchange(self, task: Task) -> dict[str, Any] | None:
        """Return the reply, `{"exit": code}` if the process died in the task, None if it died before it."""
        assert self._child is not None  # noqa: S101 - ready sets it
        try:
            self._child.send({"do": "call"}, task.payload)
        except WorkerDiedError:
            self._child.wait(2.0)
            return None
        first = self._replies.get()
        return self._replies.get() if "began" in first else None

    def break_off(self) -> bool:
        """Kill the process."""
        self._killed = True
        if self._child is not None:
            self._child.kill(wait_s=0)
        return True

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.terminate(grace_s=0.5)

    def _died(self, task: Task) -> WorkerDiedError:
        tail = self._child.tail(500) if self._child else ""
        code = self._child.returncode if self._child else None
        return WorkerDiedError(
            f"{task.name}: its worker process {describe_exit(code)}{f'; it last printed: {tail}' if tail else ''}",
            hint="the pool goes on with a new worker; if it was killed by the system, give it less data or more memory",
        )


def _open(task: Task, reply: dict[str, Any]) -> Any:
    """Return the value in a worker's reply, or raise the error in it."""
    try:
        value = pickle.loads(reply["blob"]) if "blob" in reply else None  # noqa: S301 - our own worker pickled it
    except Exception as error:
        raise PoolError(
            f"{task.name}: its result cannot be read in this process: {type(error).__name__}: {error}",
            hint="return plain data from the function",
        ) from error
    if reply["ok"]:
        return value
    if not isinstance(value, BaseException):
        raise PoolError(f"{task.name}: {reply['text']}", hint="the traceback above is the worker's")
    with contextlib.suppress(Exception):
        value.add_note(f"In the worker process:\n{reply['text']}")
    raise value
