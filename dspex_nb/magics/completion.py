"""Tab completion of the magics' options, through IPython's matchers: no extension, every front end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dspex_nb.magics.arguments import Usage

Names = Callable[[Any], list[str]]
"""Given the shell, names to complete for one option or word."""


class Completions:
    """Completes `--options` and their values on the lines of our magics.

    Args:
        usages: By magic name without percent signs.
        values: `"magic:option"` or `"magic:word"` to a callable that names the candidates.
        more: By magic name, further options that depend on the words before the cursor.
    """

    def __init__(
        self, shell: Any, usages: dict[str, Usage], values: dict[str, Names], more: dict[str, Callable[[list[str]], list[str]]]
    ) -> None:
        self.shell, self.usages, self.values, self.more = shell, usages, values, more
        self._line = re.compile(rf"^\s*(?:\w+\s*=\s*)?%{{1,2}}({'|'.join(map(re.escape, usages))})\s(.*)$")

    def candidates(self, line: str) -> tuple[str, list[str]]:
        """Return the fragment before the cursor and what it may become."""
        found = self._line.match(line)
        if not found:
            return "", []
        usage, rest = self.usages[found[1]], found[2]
        *before, fragment = re.split(r"\s+", rest)
        if fragment.startswith("--"):
            further = self.more[found[1]](before) if found[1] in self.more else []
            names = [f"--{name}" for name in (*(option.name for option in usage.options), "help", *further)]
        else:
            names = self._names(found[1], usage, before)
            fragment = fragment.rpartition(",")[2]  # `--metrics exact_match,f`
        return fragment, [name for name in names if name.startswith(fragment)]

    def _names(self, magic: str, usage: Usage, before: list[str]) -> list[str]:
        opened = next((word[2:] for word in reversed(before) if word.startswith("--")), "")
        option = next((o for o in usage.options if o.name == opened), None)
        if option is not None and option.takes and before and before[-1] == f"--{opened}":
            named = self.values.get(f"{magic}:{opened}")
            return list(option.choices) or (named(self.shell) if named else [])
        named = self.values.get(f"{magic}:{len([w for w in before if w])}")
        return named(self.shell) if named and not opened else []

    def matcher(self) -> Callable[[Any], Any]:
        """Return an IPython v2 matcher."""
        from IPython.core.completer import SimpleCompletion, context_matcher

        @context_matcher(priority=100)
        def dspex_options(context: Any) -> Any:
            line = context.line_with_cursor[: context.cursor_position]
            fragment, names = self.candidates(line)
            return {
                "completions": [SimpleCompletion(name, type="option") for name in names],
                "matched_fragment": fragment,
                "suppress": bool(names),
            }

        dspex_options.matcher_identifier = "dspex_nb.options"
        matcher: Callable[[Any], Any] = dspex_options
        return matcher
