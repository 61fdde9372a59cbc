"""Run a program on rows: the data checked first, progress shown while it runs, results in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from dspex_nb.api.displays import Watch
from dspex_nb.api.programs import Program, lm_width
from dspex_nb.api.sessions import session
from dspex_nb.datasets import rows_of
from dspex_nb.datasets.rows import missing_column
from dspex_nb.errors import Cancelled
from dspex_nb.events import RunEnded, RunStarted
from dspex_nb.examples import Example
from dspex_nb.runs.mapping import RowResult, map_rows
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.views import ProgressState, progress_html, progress_text


def checked_rows(program: Program, data: Any) -> list[Example]:
    """Return `data` as examples whose input keys are the program's inputs.

    Raises:
        DataError: A column that the program needs is missing.
    """
    examples = rows_of(data)
    for index, example in enumerate(examples if program.inputs is not None else ()):
        for name in program.inputs or ():
            if name not in example:
                raise missing_column(name, list(example), where=f"row {index}" if index else "the data")
    if program.accepts is None:
        return examples
    return [example.with_inputs(*(name for name in program.accepts if name in example)) for example in examples]


@contextlib.contextmanager
def recorded(scope: Scope, name: str, of: str, total: int) -> Iterator[None]:
    """Publish that a run began, and how it ended, around the work."""
    scope.publish(RunStarted(run_id=scope.run_id, name=name, of=of, total=total))
    started, status, error = time.perf_counter(), "failed", None
    try:
        yield
        status = "done"
    except (Cancelled, KeyboardInterrupt):
        status = "cancelled"
        raise
    except Exception as raised:
        error = str(raised)
        raise
    finally:
        elapsed_s = time.perf_counter() - started
        scope.publish(RunEnded(run_id=scope.run_id, status=status, elapsed_s=elapsed_s, error=error))


def run_rows(
    program: Program, data: Any, *, n_jobs: int | None, on_error: str, on_progress: Any = None, live: bool = True
) -> Sequence[RowResult]:
    """Run `program` on each row of `data`, showing a progress bar in a notebook.

    Raises:
        Cancelled: The user pressed ■; answers already received are in the cache.
    """
    now = session()
    examples = checked_rows(program, data)
    scope = Scope(new_run_id(), now.bus)
    state = ProgressState(run_id=scope.run_id, title=program.name, total=len(examples))
    draws = (lambda: progress_html(state), lambda: progress_text(state))
    with (
        Watch(scope, state, *draws, live=live, on_progress=on_progress, actions={"cancel": scope.cancel.cancel}),
        recorded(scope, program.name, "map", len(examples)),
    ):
        width = program.n_jobs if n_jobs is None else lm_width(now, n_jobs)
        rows = [example.inputs() for example in examples]
        return list(map_rows(program.call, rows, n_jobs=width, scope=scope, on_error=on_error))  # type: ignore[arg-type]
