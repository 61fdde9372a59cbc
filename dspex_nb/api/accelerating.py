"""`dx.accelerate`: a DSPy program whose predictors are served by the native engine."""

from __future__ import annotations

from typing import Any

from dspex_nb.api.programs import is_dspy_module
from dspex_nb.api.sessions import session
from dspex_nb.errors import DSPexError


def accelerate(program: Any, on: bool = True) -> Any:  # noqa: FBT001, FBT002 - `dx.accelerate(program, False)` reads as it is
    """Let the native engine serve a DSPy program's predictors where that is exact, and return the same program.

    The program is changed in place: every `dspy.Predict` inside it (modules' own, in lists and dicts too) gets a class that
    asks our client directly, and `dx.accelerate(program, False)` undoes it. It stays a `dspy.Module`: optimizers, callbacks,
    `save` and `load`, `set_lm`, `deepcopy` and traces work as before, with the same prompts, results and files; a pickled
    program is a plain one. Copies are accelerated like their original.

    Native are calls in the chat, JSON and compact formats whose LM is one of ours: set for DSPy, or, where DSPy has none
    set, the session's. Everything else (another LM or adapter, a type only DSPy handles, streaming, callbacks on adapters)
    goes DSPy's own way, call by call. In threads that DSPy starts (`dspy.Parallel`, `dspy.Evaluate`) the session is the one
    that `dx.configure` set: a `dx.context` does not reach them, a `dspy.context` does.

    Raises:
        DSPexError: It is no DSPy program.
    """
    if not is_dspy_module(program):
        hint = "give a dspy.Module; dx.Predict and pipelines are native already"
        raise DSPexError(f"{program!r:.80} is of type {type(program).__name__}, not a DSPy program", hint=hint)
    from dspex_nb.bridge import accelerate_predictors

    return accelerate_predictors(program, session, on=on)
