"""Where the rows of a map or an evaluation run: here, or in a pool's workers, on this machine or on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dspex_nb.api.pools import pool
from dspex_nb.api.programs import Program, program_of
from dspex_nb.api.sessions import session
from dspex_nb.errors import TransferError
from dspex_nb.pools import Pool, Task
from dspex_nb.predictions import Prediction
from dspex_nb.scopes import Scope

_AHEAD = 2  # rows a slot that are in the pool at once: one that runs, one that waits


def placed(program: Any, name: str = "", backend: str | Pool | None = None) -> Program:
    """Return `program` as rows are run through it: here, or each row a task in a pool.

    Args:
        program: A predictor, a pipeline, a DSPy module or a function.
        name: What to call it.
        backend: None and `"thread"` run rows here. `"loky"`, `"dask"` and `"ray"` run them in the session's first pool of that
            backend, which is made if there is none; a pool runs them there.

    Raises:
        DSPexError: It cannot be called.
        PoolError: There is no such backend.
        TransferError: The program cannot be sent to a worker.
    """
    unit = program_of(program, name)
    if backend is None or backend == "thread":
        return unit
    workers = backend if isinstance(backend, Pool) else _pool_of(backend)
    if not workers.separate:
        return unit
    return replace(unit, call=_sender(_pickled(program, unit.name), name, workers), n_jobs=_AHEAD * workers.size, acall=None)


def _pool_of(backend: str) -> Pool:
    pools = session().pools
    found = (pools.get(name) for name in pools.names())
    return next((each for each in found if each.backend == backend and not each.closed), None) or pool(backend, backend=backend)  # type: ignore[arg-type]


def _pickled(program: Any, name: str) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(program))
    except Exception as error:
        raise TransferError(
            f"{name}: the program cannot be sent to a worker: {error}",
            hint="let its functions open files and connections inside, or run it here: leave backend= out",
        ) from error


def _sender(blob: bytes, name: str, workers: Pool) -> Callable[[dict[str, Any], Scope], Prediction]:
    def call(row: dict[str, Any], scope: Scope) -> Prediction:
        future = workers.run(Task(run_row, (blob, name, row), scope=scope))
        forget = scope.cancel.on_cancel(future.interrupt)
        try:
            prediction: Prediction = future.result()
        except BaseException:
            future.cancel()
            scope.cancel.check()
            raise
        finally:
            forget()
        return prediction

    return call


def run_row(blob: bytes, name: str, row: dict[str, Any]) -> Prediction:
    """In a worker: run one row with the settings that came from the notebook; what it asks of a model is told there."""
    from dspex_nb.scopes import new_run_id

    unit = program_of(_program(blob), name)
    return unit.call(row, Scope(new_run_id(), session().bus))


@functools.lru_cache(maxsize=4)
def _program(blob: bytes) -> Any:
    import pickle

    return pickle.loads(blob)  # noqa: S301 - the notebook pickled it, and the pool carried it
