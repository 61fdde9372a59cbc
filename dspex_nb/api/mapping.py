"""Run a program on rows: the data checked first, progress shown while it runs, results in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.api.displays import Watch
from dspex_nb.api.programs import Program, lm_width
from dspex_nb.api.sessions import session
from dspex_nb.datasets import rows_of
from dspex_nb.datasets.rows import iter_rows_of, missing_column
from dspex_nb.errors import Cancelled, DSPexError, LMNotConfiguredError, StepError, did_you_mean
from dspex_nb.events import RunEnded, RunStarted
from dspex_nb.examples import Example
from dspex_nb.runs.mapping import RowResult, iter_rows, map_rows
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.views import ProgressState, progress_html, progress_text

_WINDOW = 1000  # rows that may have ended while one before them has not


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of the data: its number, all its columns, those that were given to the program, and its result."""

    index: int
    example: Example
    inputs: Mapping[str, Any]
    result: RowResult


@dataclass(slots=True)
class _Counter:
    count: int = 0


def checked_rows(program: Program, data: Any) -> list[Example]:
    """Return `data` as examples whose input keys are the program's inputs.

    Raises:
        DataError: A column that the program needs is missing.
    """
    return [_with_inputs(program, example) for example in _checked(program, rows_of(data))]


def input_rows(
    program: Program, data: Any, taking: Callable[[Iterable[Example]], Iterator[dict[str, Any]]] | None = None
) -> tuple[int, Iterator[dict[str, Any]]]:
    """Return how many rows there are (0 if unknown) and each one's inputs, made as they are taken: many rows stay small.

    An iterator's rows are checked as they come, all other data before the first is run.

    Raises:
        DataError: A column that the program needs is missing.
    """
    total = 0
    if not isinstance(data, Iterator):
        total = sum(1 for _ in _checked(program, iter_rows_of(data)))
    examples = _checked(program, iter_rows_of(data))
    return total, taking(examples) if taking else (_with_inputs(program, example).inputs() for example in examples)


def _checked(program: Program, examples: Iterable[Example]) -> Iterator[Example]:
    for index, example in enumerate(examples):
        for name in program.inputs or ():
            if name not in example:
                raise missing_column(name, list(example), where=f"row {index}" if index else "the data")
        yield example


def _with_inputs(program: Program, example: Example) -> Example:
    if program.accepts is None:
        return example
    return example.with_inputs(*(name for name in program.accepts if name in example))


@contextlib.contextmanager
def recorded(scope: Scope, name: str, of: str, total: int) -> Iterator[None]:
    """Publish that a run began, and how it ended, around the work."""
    scope.publish(RunStarted(run_id=scope.run_id, name=name, of=of, total=total))
    started, status, error = time.perf_counter(), "failed", None
    try:
        yield
        status = "done"
    except (Cancelled, KeyboardInterrupt, GeneratorExit):  # the last: whoever took results from a generator has enough
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
        LMNotConfiguredError: No LM is set and every row needs one.
        Cancelled: The user pressed ■; answers already received are in the cache.
    """
    with _prepared(program, data, n_jobs, on_error, on_progress, live) as (rows, options):
        results = map_rows(program.call, rows, **options)
    if results and all(isinstance(_root_cause(result.error), LMNotConfiguredError) for result in results):
        raise _root_cause(results[0].error)  # one clear error, not a table of it
    return results


def iter_mapped(
    program: Program, data: Any, *, n_jobs: int | None, on_error: str, on_progress: Any = None, live: bool = True
) -> Iterator[RowResult]:
    """Yield what `run_rows` returns, each row as soon as it and those before it are done; leaving early stops the rest."""
    prepared = _prepared(program, data, n_jobs, on_error, on_progress, live)

    def results() -> Iterator[RowResult]:
        ready: dict[int, RowResult] = {}
        following = 0
        with prepared as (rows, options):
            for result in iter_rows(program.call, rows, **options):
                ready[result.index] = result
                while following in ready:
                    yield ready.pop(following)
                    following += 1

    return results()


def iter_table(
    program: Program,
    data: Any,
    *,
    n_jobs: int | None,
    on_error: str,
    on_progress: Any = None,
    live: bool = True,
    ordered: bool = True,
    done: Callable[[int, dict[str, Any]], bool] | None = None,
) -> Iterator[TableRow]:
    """Yield each row of `data` with its result, in the rows' order or as they end; rows that `done` says are left out.

    Only rows in flight are held: as far as `ordered` needs it, a row that takes long holds those behind it back.
    """
    taken: dict[int, tuple[int, Example, Mapping[str, Any]]] = {}

    def inputs(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
        for index, example in enumerate(examples):
            given = _with_inputs(program, example).inputs()
            if done is None or not done(index, given):
                taken[numbers.count] = (index, example, given)
                numbers.count += 1
                yield given

    numbers = _Counter()  # of the rows that run: those left out have none
    prepared = _prepared(program, data, n_jobs, on_error, on_progress, live, inputs)

    def results() -> Iterator[TableRow]:
        ready: dict[int, TableRow] = {}
        following = 0
        with prepared as (rows, options):
            window = max(_WINDOW, 8 * options["n_jobs"]) if ordered else 0
            for result in iter_rows(program.call, rows, **options, window=window):
                row = TableRow(*taken.pop(result.index), result)
                if not ordered:
                    yield row
                    continue
                ready[result.index] = row
                while following in ready:
                    yield ready.pop(following)
                    following += 1

    return results()


def check_choice(name: str, given: str, choices: Sequence[str]) -> None:
    """Raise if an option is none of its choices.

    Raises:
        DSPexError: It is none; the hint names the nearest.
    """
    if given not in choices:
        hint = f"{did_you_mean(str(given), choices)}choose {' or '.join(map(repr, choices))}"
        raise DSPexError(f"{name}={given!r} is not known", hint=hint)


def _prepared(
    program: Program,
    data: Any,
    n_jobs: int | None,
    on_error: str,
    on_progress: Any,
    live: bool,  # noqa: FBT001 - handed on
    taking: Callable[[Iterable[Example]], Iterator[dict[str, Any]]] | None = None,
) -> contextlib.AbstractContextManager[tuple[Iterator[dict[str, Any]], dict[str, Any]]]:
    """Check everything now, and return the context of the work: watched and recorded while it is open."""
    check_choice("on_error", on_error, ("keep", "raise"))
    now = session()
    total, rows = input_rows(program, data, taking)
    width = program.n_jobs if n_jobs is None else lm_width(now, n_jobs)
    scope = Scope(new_run_id(), now.bus)
    state = ProgressState(run_id=scope.run_id, title=program.name, total=total)
    draws = (lambda: progress_html(state), lambda: progress_text(state))
    watch = Watch(scope, state, *draws, live=live, on_progress=on_progress, actions={"cancel": scope.cancel.cancel})

    @contextlib.contextmanager
    def work() -> Iterator[tuple[Iterator[dict[str, Any]], dict[str, Any]]]:
        with watch, recorded(scope, program.name, "map", total):
            yield rows, {"n_jobs": width, "scope": scope, "on_error": on_error, "total": total, "acall": program.acall}

    return work()


def _root_cause(error: BaseException | None) -> Any:
    return error.cause if isinstance(error, StepError) and error.cause is not None else error
