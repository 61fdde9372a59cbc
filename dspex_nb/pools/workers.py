"""What runs the tasks of one slot: the port, and this process's threads behind it. Processes: `processes.py`."""

from __future__ import annotations

from types import CoroutineType
from typing import Any, ClassVar, Protocol

from dspex_nb.errors import PoolError
from dspex_nb.pools import iterating
from dspex_nb.pools.settings import Slot
from dspex_nb.pools.tasks import Task


class Worker(Protocol):
    """What one slot of a pool runs its tasks with. `ready`, `run`, `renew` and `close` are called in the slot's own thread.

    Attributes:
        separate: Whether tasks run in another process, so that arguments cross by value and the task can be killed.
        generation: Counts restarts; state that tasks left in the worker is gone when it changes.
    """

    separate: ClassVar[bool]
    generation: int

    def pack(self, task: Task) -> Any:
        """Return what `run` needs, made in the submitting thread; raises TransferError if the task cannot cross."""
        ...

    def ready(self) -> None:
        """Make sure a worker is there, so that `generation` is that of the worker `run` will use."""
        ...

    def run(self, task: Task) -> Any:
        """Make the call and return its value, or raise its error; a task with a channel gives its items there.

        A WorkerDiedError with `began = False` says that the task has not started, so that it may be run again.
        """
        ...

    def break_off(self, why: PoolError | None = None) -> bool:
        """End the current task from another thread, `run` then raises `why`; False if its thread must be abandoned."""
        ...

    def tend(self, *, leased: bool) -> None:
        """After a task: replace a worker that has died, or, where no session has its state, one that is due."""
        ...

    def renew(self) -> None:
        """Replace the worker, so that no state of earlier tasks is left."""
        ...

    def rss_bytes(self) -> int:
        """Return the memory it takes with all it started, 0 if unknown."""
        ...

    def silent_s(self) -> float:
        """Return the seconds since its last sign of life in this task."""
        ...

    def close(self) -> None:
        """Free what the worker holds."""
        ...


class ThreadWorker:
    """Runs tasks in the slot's own thread, with the context variables of the submitter."""

    separate: ClassVar[bool] = False

    def __init__(self, slot: Slot) -> None:
        kept = ("memory_bytes", "gpus", "python", "max_tasks", "max_age_s", "cpu_threads")
        asked = [name for name in kept if getattr(slot.settings, name) is not None]
        if asked:
            raise PoolError(
                f"pool {slot.pool!r}: threads share this process, so {', '.join(asked)} cannot be kept",
                hint="use backend='loky'",
            )
        self.name = slot.name
        self.generation = 0

    def pack(self, task: Task) -> None:
        """Refuse an import path: a thread has the function itself."""
        if isinstance(task.fn, str):
            raise PoolError(f"{task.fn!r} is a name, not a function", hint="import paths are for pools with python=…")

    def ready(self) -> None:
        """Return at once."""

    def run(self, task: Task) -> Any:
        """Make the call."""
        value: Any = task.context.run(task.fn, *task.args, **task.kwargs)  # type: ignore[arg-type]  # no name, see pack
        if task.channel is None:
            return task.context.run(iterating.whole, value) if isinstance(value, CoroutineType) else value
        return task.context.run(self._pour, iterating.each(value), task)

    def break_off(self, why: PoolError | None = None) -> bool:  # noqa: ARG002 - the port's
        """Return False: a thread cannot be killed."""
        self.generation += 1
        return False

    def tend(self, *, leased: bool) -> None:
        """Return at once."""

    def renew(self) -> None:
        """Return at once: a thread keeps no state of its own."""

    def rss_bytes(self) -> int:
        """Return 0: its memory is this process's."""
        return 0

    def silent_s(self) -> float:
        """Return 0: it is not watched."""
        return 0.0

    def close(self) -> None:
        """Return at once."""

    @staticmethod
    def _pour(items: Any, task: Task) -> int:
        assert task.channel is not None  # noqa: S101 - see run
        count = 0
        try:
            for item in items:
                if task.future.done() or not task.channel.offer(item):
                    break
                count += 1
        finally:
            if hasattr(items, "close"):
                items.close()
        return count
