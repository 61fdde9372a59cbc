"""A notebook's shell without the notebook: runs cells in a test, and raises what they raise."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping
from typing import Any, Self


class TestingShell:
    """IPython's shell with the magics loaded; cells run as in a notebook, and their errors reach the test.

    Close it, or use it in a `with` block: IPython keeps one shell a process, and the one before comes back.

    Attributes:
        shell: IPython's `InteractiveShell`.
        displayed: What the last cell displayed: a mime bundle each, in order.
        stdout: What the last cell printed, its value's text included.
        traceback: What IPython showed for the last cell's error, empty if there was none.
    """

    __test__ = False  # pytest collects classes by their name

    def __init__(self) -> None:
        from IPython.core.displaypub import CapturingDisplayPublisher
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        self._before = (InteractiveShell._instance, sys.modules.get("__main__"))  # noqa: SLF001 - put back by close
        InteractiveShell.clear_instance()
        quiet = Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}})
        self.shell: Any = InteractiveShell.instance(config=quiet)
        self.shell.display_pub = CapturingDisplayPublisher(parent=self.shell)
        self.shell._showtraceback = self._take_traceback  # noqa: SLF001 - where front ends print it
        self.displayed: list[Mapping[str, Any]] = []
        self.stdout = self.traceback = ""
        self.shell.run_line_magic("load_ext", "dspex_nb")

    @property
    def user_ns(self) -> dict[str, Any]:
        """The variables of the cells."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    def run(self, cell: str) -> Any:
        """Run a cell and return its value.

        Raises:
            BaseException: Whatever the cell raised.
        """
        self.shell.display_pub.outputs.clear()
        self.traceback, printed = "", io.StringIO()
        with contextlib.redirect_stdout(printed):
            result = self.shell.run_cell(cell, store_history=True)
        self.stdout = printed.getvalue()
        self.displayed = [dict(output["data"]) for output in self.shell.display_pub.outputs]
        result.raise_error()
        return result.result

    def complete(self, line: str) -> list[str]:
        """Return what a Tab at the end of `line` offers."""
        return list(self.shell.complete(line, line, len(line))[1])

    def close(self) -> None:
        """End it; a second time does nothing."""
        from IPython.core.interactiveshell import InteractiveShell

        if InteractiveShell._instance is not self.shell:  # noqa: SLF001 - the class keeps its one shell there
            return
        InteractiveShell.clear_instance()
        shell, main = self._before
        for cls in type(shell)._walk_mro() if shell is not None else ():  # noqa: SLF001 - as SingletonConfigurable.instance does
            cls._instance = shell
        if main is not None:
            sys.modules["__main__"] = main

    def _take_traceback(self, _kind: Any, _error: Any, lines: list[str]) -> None:
        self.traceback = "\n".join(lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
