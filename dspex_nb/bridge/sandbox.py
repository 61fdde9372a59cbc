"""The sandbox for code that a model wrote: DSPy's, on Deno, with nothing fetched from deno.land."""

from __future__ import annotations

import atexit
import weakref
from pathlib import Path
from typing import Any

import dspy
from dspy.primitives.code_interpreter import CodeInterpreterError

from dspex_nb.bridge.lm import Stopped
from dspex_nb.errors import MissingDependencyError, PipelineError
from dspex_nb.scopes import CancelToken

_IMPORTS = Path(__file__).parent / "deno" / "imports.json"


class Sandbox(dspy.PythonInterpreter):  # type: ignore[misc]
    """DSPy's interpreter, started with an import map, and with errors that say what to do.

    Its runner takes one function from deno.land, a second host beside the npm registry that Pyodide comes from; a machine behind
    a mirror reaches only the registry. The map puts our own function of the same name in its place.

    A stop kills Deno: code that never ends, which a model writes as easily as any other, reads no message and would keep a
    processor busy even after this process has ended.

    Args:
        *args: As DSPy's interpreter takes them.
        cancel: What stops it, besides the end of this process.
        **options: As DSPy's interpreter takes them.
    """

    def __init__(self, *args: Any, cancel: CancelToken | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cancel = cancel or CancelToken()
        self._forget = self._cancel.on_cancel(self._kill)
        _LIVE.add(self)
        if self._uses_default_deno_command:
            self.deno_command.insert(2, f"--import-map={_IMPORTS}")

    def start(self) -> None:
        """Start Deno.

        Raises:
            MissingDependencyError: It is not installed.
            PipelineError: It does not start.
            Stopped: It was stopped.
        """
        try:
            self._go_on()
            super().start()
        except CodeInterpreterError as error:
            self._go_on()
            raise _explained(error) from error
        self._go_on()

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run code; what is stopped raises `Stopped`, so that DSPy does not ask the model for better code."""
        try:
            return super().execute(code, variables)
        except CodeInterpreterError:
            self._go_on()
            raise

    def shutdown(self) -> None:
        """End Deno."""
        self._forget()
        if self._cancel.cancelled:
            self._kill()
            self._session_ended = True  # nobody is there to be asked to end
        super().shutdown()

    def _go_on(self) -> None:
        if self._cancel.cancelled:
            self._kill()  # one that was being started when the stop came
            raise Stopped

    def _kill(self) -> None:
        if self.deno_process is not None:
            self.deno_process.kill()


_LIVE: weakref.WeakSet[Sandbox] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    for sandbox in tuple(_LIVE):
        sandbox._kill()  # noqa: SLF001 - our own, just above


def _explained(error: Exception) -> Exception:
    said = str(error)
    if "not found" in said or "Unable to determine" in said or "Unsupported Deno" in said:
        return MissingDependencyError(
            "a model's code runs in Deno's sandbox, and no fitting Deno is there", hint="pip install deno"
        )
    reason = said.splitlines()[0] if said else type(error).__name__
    return PipelineError(
        f"Deno's sandbox did not start: {reason}",
        hint="at its first start Deno loads Pyodide from the npm registry: check that this machine reaches it",
    )


class _Factory:
    """Makes sandboxes of one run; its instructions, by which DSPy tells a model what it may use, are the sandbox's."""

    execution_instructions = Sandbox.execution_instructions

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel

    def __call__(self) -> Sandbox:
        return Sandbox(cancel=self._cancel)


def interpreter_factory(cancel: CancelToken) -> Any:
    """Return what makes sandboxes that `cancel` stops: the user's own, if DSPy is configured with one, else `Sandbox`."""
    return dspy.settings.get("interpreter_factory") or _Factory(cancel)
