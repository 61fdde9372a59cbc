"""The sandbox for code that a model wrote: DSPy's, on Deno, with nothing fetched from deno.land."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
from dspy.primitives.code_interpreter import CodeInterpreterError

from dspex_nb.errors import MissingDependencyError, PipelineError

_IMPORTS = Path(__file__).parent / "deno" / "imports.json"


class Sandbox(dspy.PythonInterpreter):  # type: ignore[misc]
    """DSPy's interpreter, started with an import map, and with errors that say what to do.

    Its runner takes one function from deno.land, a second host beside the npm registry that Pyodide comes from; a machine behind
    a mirror reaches only the registry. The map puts our own function of the same name in its place.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self._uses_default_deno_command:
            self.deno_command.insert(2, f"--import-map={_IMPORTS}")

    def start(self) -> None:
        """Start Deno.

        Raises:
            MissingDependencyError: It is not installed.
            PipelineError: It does not start.
        """
        try:
            super().start()
        except CodeInterpreterError as error:
            raise _explained(error) from error


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


def interpreter_factory() -> Any:
    """Return what makes sandboxes: the user's own, if DSPy is configured with one, else `Sandbox`."""
    return dspy.settings.get("interpreter_factory") or Sandbox
