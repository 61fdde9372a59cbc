"""One supervised child process: `python -m module`, JSON messages both ways, gone when this process is gone.

A message is one line of JSON; where it carries bytes, its `blob_bytes` says how many raw bytes follow the line. Commands go
down the child's stdin, messages come up its stdout; what the child prints goes to its log instead.

A child dies with its parent by two independent means, because each has a hole. On Linux the child asks the kernel for
SIGKILL at the parent's death (`PR_SET_PDEATHSIG`); that works even while it holds the GIL, but the signal fires when the
*thread* that created the child ends, so every child is created by one thread that lives as long as this process. Everywhere,
a thread of the child watches its stdin: the pipe closes when this process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

from dspex_nb.errors import WorkerDiedError
from dspex_nb.pools.framing import read_message, write_message

# The child takes this process's import path before it imports anything, so that it finds the modules the notebook finds.
_BOOT = (
    "import json,os,sys; sys.path[:]=json.loads(os.environ.pop('DSPEX_CHILD_PATH')); from dspex_nb.pools.boot import main; main()"
)

# Another interpreter keeps its own packages; of this process it gets the user's folders, and this package by its place.
_FOREIGN_BOOT = """
import importlib.util, json, os, sys
folder, *more = json.loads(os.environ.pop('DSPEX_CHILD_PATH'))
sys.path[:] = [*[path for path in sys.path if path], *more]
spec = importlib.util.spec_from_file_location('dspex_nb', folder + '/__init__.py', submodule_search_locations=[folder])
sys.modules['dspex_nb'] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules['dspex_nb'])
from dspex_nb.pools.boot import main
main()
"""

_Job = tuple[Callable[[], "subprocess.Popen[bytes]"], "Future[subprocess.Popen[bytes]]"]


class _Spawner:
    """The one thread that creates children: they live as long as it does, and it as long as this process."""

    def __init__(self) -> None:
        self._pid = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    def spawn(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._pid != os.getpid():  # first use, or a forked copy of this process, where the thread does not exist
                self._pid, self._jobs = os.getpid(), queue.SimpleQueue()
                threading.Thread(target=_serve_jobs, args=(self._jobs,), name="dspex-spawner", daemon=True).start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((start, future))
        return future.result()


def _serve_jobs(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        start, future = jobs.get()
        try:
            future.set_result(start())
        except BaseException as error:  # noqa: BLE001 - the caller raises it; this thread must outlive it
            future.set_exception(error)


_spawner = _Spawner()


class ChildProcess:
    """A running `python -m module args…`; construct it and it runs.

    Args:
        module: Dotted name, run as `__main__`. It calls `childside.serve(on_command)` to take commands.
        args: Its command line.
        env: Variables added to (or, where the value is None, removed from) this process's environment.
        log: Where its stdout and stderr go, appended; without one they are kept only for `tail`.
        cwd: Its working folder; this process's own if None.
        python: Another interpreter, 3.11 or newer, with packages of its own.

    Raises:
        OSError: The process cannot be started.
    """

    lost = False  # on this machine it either runs or has ended

    def __init__(
        self,
        module: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str | None] | None = None,
        log: str | os.PathLike[str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        python: str | None = None,
    ) -> None:
        self.module = module
        self._log: IO[bytes] = Path(log).open("ab+") if log is not None else tempfile.TemporaryFile()  # noqa: SIM115
        self._write_lock = threading.Lock()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[dict[str, Any]], None]] = []
        self._early: list[dict[str, Any]] = []
        self._exit_callbacks: list[Callable[[int], None]] = []
        self._ended = threading.Event()
        command = [python or sys.executable, "-c", _BOOT if python is None else _FOREIGN_BOOT, module, *args]
        environment = _environment(env, foreign=python is not None)
        self._process = _spawner.spawn(
            lambda: subprocess.Popen(  # noqa: S603 - our own interpreter and code
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                cwd=cwd,
                # Its own session: Jupyter's interrupt goes to the kernel's whole process group and must not reach it.
                start_new_session=True,
            )
        )
        self._reader = threading.Thread(target=self._read, name=f"dspex-child-{self.pid}-reader", daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, name=f"dspex-child-{self.pid}-watcher", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._ended.is_set()

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for the signal that ended it; None while it runs."""
        return self._process.returncode if self._ended.is_set() else None

    def send(self, message: Mapping[str, Any], blob: bytes | None = None) -> None:
        """Send one command, with raw bytes beside it if given.

        Raises:
            WorkerDiedError: The child has ended.
        """
        assert self._process.stdin is not None  # noqa: S101 - a PIPE was asked for
        try:
            with self._write_lock:
                write_message(self._process.stdin, message, blob)
        except (OSError, ValueError) as error:  # a broken pipe, or one closed by `terminate`
            raise self._died() from error

    def on_message(self, callback: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call `callback` with each message, in order, in the reader thread; the returned callable ends that.

        Messages that arrived before the first callback are handed to it at once, so none is lost. Bytes sent beside a
        message are its item `"blob"`.
        """
        with self._lock:
            self._callbacks.append(callback)
            early, self._early = self._early, []
            for message in early:  # under the lock, so that a message arriving now comes after them
                self._deliver(callback, message)
        return lambda: self._forget(callback)

    def on_exit(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the exit code once, after the last message; at once if it has ended."""
        with self._lock:
            if not self._ended.is_set():
                self._exit_callbacks.append(callback)
                return
        callback(self._process.returncode)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end; returns the exit code, or None if it still runs after `timeout_s`."""
        self._ended.wait(timeout_s)
        return self.returncode

    def terminate(self, grace_s: float = 2.0) -> int | None:
        """Close its stdin, which tells it to end, and kill it if it still runs after `grace_s`; returns the exit code."""
        # Not under the write lock: a sender blocked on a full pipe would hold it. Closing the raw file frees that sender too.
        assert self._process.stdin is not None  # noqa: S101 - a PIPE was asked for
        if self._write_lock.acquire(timeout=min(grace_s, 0.1)):
            try:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            finally:
                self._write_lock.release()
            if self.wait(grace_s) is not None:
                return self.returncode
        return self.kill()

    def kill(self, wait_s: float = 2.0) -> int | None:
        """Kill it and what it started in its process group, now; returns the exit code, None if not over within `wait_s`."""
        if self._process.returncode is None:  # not yet reaped, so its id is still its own
            _kill_group(self._process)
        return self.wait(wait_s)

    def tail(self, max_bytes: int = 2000) -> str:
        """Return the end of what it printed."""
        with contextlib.suppress(OSError, ValueError):
            size = os.fstat(self._log.fileno()).st_size
            if hasattr(os, "pread"):  # the child shares this file's position, so it must not be moved
                return os.pread(self._log.fileno(), max_bytes, max(0, size - max_bytes)).decode("utf-8", "replace").strip()
        return ""

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - a PIPE was asked for
        with contextlib.suppress(OSError, ValueError):
            while (message := read_message(self._process.stdout)) is not None:
                with self._lock:
                    callbacks = list(self._callbacks)
                    if not callbacks:
                        self._early.append(message)
                for callback in callbacks:
                    self._deliver(callback, message)

    def _watch(self) -> None:
        _reap(self._process)
        self._reader.join(1.0)  # a grandchild may hold the pipe open: do not wait for ever for the last message
        with self._lock:
            self._ended.set()
            callbacks, self._exit_callbacks = self._exit_callbacks, []
        for callback in callbacks:
            with contextlib.suppress(Exception):  # the others must still hear of it
                callback(self._process.returncode)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not self._reader.is_alive():
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()

    @staticmethod
    def _deliver(callback: Callable[[dict[str, Any]], None], message: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):  # a broken listener must not stop the channel
            callback(message)

    def _forget(self, callback: Callable[[dict[str, Any]], None]) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._callbacks.remove(callback)

    def _died(self) -> WorkerDiedError:
        code = self.wait(0.5)
        tail = self.tail(500)
        return WorkerDiedError(
            f"process {self.pid} ({self.module}) {describe_exit(code)}{f'; it last printed: {tail}' if tail else ''}",
            hint="start it again; if it ended by a signal, it may have run out of memory",
        )

    def __repr__(self) -> str:
        return f"<ChildProcess {self.module} pid={self.pid} {'running' if self.alive else describe_exit(self.returncode)}>"


def describe_exit(code: int | None) -> str:
    """Say how a process ended: `ended with code 1`, `was ended by SIGKILL`."""
    if code is None:
        return "no longer takes commands"
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _environment(changes: Mapping[str, str | None] | None, *, foreign: bool) -> dict[str, str]:
    paths = [path or str(Path.cwd()) for path in sys.path]
    if foreign:
        own = {str(Path(prefix)) + os.sep for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
        paths = [str(Path(__file__).parents[1]), *(path for path in paths if not path.startswith(tuple(own)))]
    merged: dict[str, str | None] = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "DSPEX_CHILD_PATH": json.dumps(paths),
        "DSPEX_PARENT_PID": str(os.getpid()),
        **(changes or {}),
    }
    return {name: value for name, value in merged.items() if value is not None}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own group, see start_new_session
        else:
            process.kill()


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end, and kill what is left of its group before its id can be given to another process."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            _kill_group(process)
    process.wait()
