"""What optimizers do one after another though none of it waits for the other: sets of demos bootstrapped, instructions proposed.

Each of these is a chain of LM calls, and DSPy runs the chains in turn. Here they run beside each other, asking the same and
giving the same: what an optimizer draws at random it draws in its own order, before the first of them begins. As in
`choices.py` these are contexts in which functions of the optimizer's own module do otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial, wraps
from inspect import signature
from types import SimpleNamespace
from typing import Any

import dspy

from dspex_nb.bridge.lanes import Ahead
from dspex_nb.pools import crew

_BESIDE = 16


@contextlib.contextmanager
def overlapped(n_jobs: int, ahead: Ahead) -> Iterator[None]:
    """Let random search and MIPROv2 run their chains at once, never more than `n_jobs` of them and of evaluations' examples.

    Args:
        n_jobs: LM calls at once; 1 leaves everything in turn.
        ahead: Where chains run that evaluations do not wait for.
    """
    if n_jobs == 1:  # the user wants one call after the other
        yield
        return
    random_search: Any = importlib.import_module("dspy.teleprompt.random_search")
    mipro: Any = importlib.import_module("dspy.teleprompt.mipro_optimizer_v2")
    proposing: Any = importlib.import_module("dspy.propose.grounded_proposer")
    summary = _Summary(proposing.create_dataset_summary)
    with contextlib.ExitStack() as replaced:
        replace = partial(_replaced, replaced)
        replace(random_search.BootstrapFewShotWithRandomSearch, "compile", _searching(random_search, n_jobs, ahead))
        replace(mipro.MIPROv2, "compile", summary.expected_in(mipro.MIPROv2.compile))
        replace(mipro, "create_n_fewshot_demo_sets", _making_sets(mipro.create_n_fewshot_demo_sets, n_jobs, ahead, summary))
        replace(mipro, "GroundedProposer", _proposer(mipro.GroundedProposer, n_jobs, ahead))
        replace(proposing, "create_dataset_summary", summary.taken)
        yield


def _replaced(until: contextlib.ExitStack, owner: Any, name: str, stand_in: Any) -> None:
    until.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, stand_in)


def _searching(module: Any, n_jobs: int, ahead: Ahead) -> Callable[..., Any]:
    """Return random search's `compile`, its sets of demos bootstrapped while earlier ones are scored.

    Not all at once: a model that is asked faster for it may still be as slow, and a study that is stopped or out of budget
    should have scored what it paid for.
    """
    plain = module.BootstrapFewShotWithRandomSearch.compile

    @wraps(plain)  # its parameters are asked for
    def compile_program(self: Any, student: Any, **given: Any) -> Any:
        if self.stop_at_score is not None:  # then later sets may never be wanted, and must not be paid for
            return plain(self, student, **given)
        wanted = _Wanted()
        with contextlib.ExitStack() as rehearsal:
            rehearsal.enter_context(contextlib.redirect_stdout(io.StringIO()))
            _replaced(rehearsal, module, "BootstrapFewShot", wanted.note)
            _replaced(rehearsal, module, "Evaluate", lambda **_: lambda _: SimpleNamespace(score=0.0, results=[]))
            plain(self, student, **given)
        with contextlib.ExitStack() as run:
            results = run.enter_context(ahead.begun(wanted.calls, max(n_jobs // _BESIDE, 1)))
            _replaced(run, module, "BootstrapFewShot", _handing_over(results))
            return plain(self, student, **given)

    return compile_program


class _Summary:
    """MIPROv2's description of the data: a chain of calls that needs no demos, and so begins with them."""

    def __init__(self, plain: Callable[..., str]) -> None:
        self._plain = plain
        self._options: dict[str, Any] = {}
        self._begun: tuple[dict[str, Any], Future[str]] | None = None

    def expected_in(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Return MIPROv2's `compile`, remembering what the description is made with."""

        @wraps(plain)  # its parameters are asked for
        def compile_program(optimizer: Any, student: Any, **given: Any) -> Any:
            bound = signature(plain).bind(optimizer, student, **given)
            bound.apply_defaults()
            told = bound.arguments
            self._begun = None
            self._options = {"view_data_batch_size": told["view_data_batch_size"], "prompt_model": optimizer.prompt_model}
            self._options = self._options if told["data_aware_proposer"] else {}
            return plain(optimizer, student, **given)

        return compile_program

    def begin(self, trainset: Sequence[Any]) -> None:
        """Begin it, if it will be wanted."""
        if self._options:
            options = {"trainset": trainset, **self._options}
            self._begun = (options, crew.start(partial(self._plain, **options)))

    def taken(self, **options: Any) -> str:
        """Return what was begun with these options, or make it now."""
        begun, self._begun = self._begun, None
        return begun[1].result() if begun is not None and begun[0] == options else self._plain(**options)


def _making_sets(plain: Callable[..., Any], n_jobs: int, ahead: Ahead, summary: _Summary) -> Callable[..., Any]:
    """Return what makes MIPROv2's sets of demos, all at once and beside the description of the data."""
    module: Any = importlib.import_module("dspy.teleprompt.utils")

    def create(**given: Any) -> Any:
        wanted = _Wanted()
        with contextlib.ExitStack() as rehearsal:
            rehearsal.enter_context(contextlib.redirect_stdout(io.StringIO()))
            _replaced(rehearsal, module, "BootstrapFewShot", wanted.note)
            plain(**{**given, "rng": copy.deepcopy(given.get("rng"))})
        summary.begin(given["trainset"])
        with contextlib.ExitStack() as run:
            results = run.enter_context(ahead.begun(wanted.calls, n_jobs - 1))
            _replaced(run, module, "BootstrapFewShot", _handing_over(results))
            return plain(**given)

    return create


class _Wanted:
    """The bootstraps of a compile, noted in their order in a rehearsal that asks no LM.

    Attributes:
        calls: What makes each of them.
    """

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def note(self, **options: Any) -> Any:
        """Stand in for `BootstrapFewShot` in the rehearsal."""

        def compile_program(student: Any, **given: Any) -> Any:
            self.calls.append(partial(dspy.BootstrapFewShot(**options).compile, student, **given))
            return student.reset_copy()

        return SimpleNamespace(compile=compile_program)


def _handing_over(results: Iterator[Any]) -> Callable[..., Any]:
    """Return what stands in for `BootstrapFewShot` in the run: each compiles to the next result."""
    return lambda **_: SimpleNamespace(compile=lambda *_, **__: next(results))


def _proposer(plain: Any, n_jobs: int, ahead: Ahead) -> Any:
    """Return the class that proposes instructions, each from a chain of calls, all at once."""

    class GroundedProposer(plain):  # type: ignore[misc]
        def propose_instructions_for_program(self, *args: Any, **given: Any) -> dict[int, list[str]]:
            self._runs: list[Callable[[], str]] = []
            proposed: dict[int, list[int]] = super().propose_instructions_for_program(*args, **given)
            with ahead.begun(self._runs, n_jobs) as results:
                texts = list(results)
            return {predictor: [texts[number] for number in numbers] for predictor, numbers in proposed.items()}

        def propose_instruction_for_predictor(self, **given: Any) -> int:
            """Note a proposal with what is drawn for it now, and return its number."""
            one = copy.copy(self)  # its tip is set anew for the next
            drawn = self.rng.randint(0, 10**9)
            one.rng = SimpleNamespace(randint=lambda *_: drawn)
            self._runs.append(partial(plain.propose_instruction_for_predictor, one, **given))
            return len(self._runs) - 1

    return GroundedProposer
