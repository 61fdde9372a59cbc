"""`%dspex lm | status | cache | pools | runs | doctor`: the session at a glance, and its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_nb import api
from dspex_nb.errors import MagicUsageError, did_you_mean
from dspex_nb.magics.arguments import Arguments, Option, Usage
from dspex_nb.magics.namespace import literal

USAGE = Usage(
    "%dspex",
    "Set and see the session: lm MODEL, status, cache [trim|clear], pools, runs, optimizers, doctor.",
    ("command", "[what]"),
    (
        Option("api-base", "lm: address of an OpenAI-compatible server", "URL"),
        Option("temperature", "lm: sampling temperature", "T"),
        Option("max-tokens", "lm: longest answer", "N"),
        Option("path", "lm local: another GGUF file", "FILE"),
        Option("clear", "cache: forget every answer; also: cache clear"),
        Option("trim", "cache: drop what expired or is over the limit; also: cache trim"),
    ),
    "%dspex lm local\n%dspex lm openai/gpt-5-mini\n%dspex status\n%dspex cache trim",
)


def run(shell: Any, line: str, cell: str | None) -> Any:  # noqa: ARG001 - every magic is called alike
    """Do the command and show what it says."""
    given = USAGE.parse(line)
    if given.get("help"):
        print(USAGE.help_text())  # noqa: T201 - help is asked for
        return None
    command = given.words[0]
    if command not in COMMANDS:
        near = did_you_mean(command, COMMANDS)
        raise MagicUsageError(f"%dspex knows no {command!r}", hint=f"{near}commands: {', '.join(COMMANDS)}")
    if len(given.words) > 1 and command not in {"lm", "cache"}:
        raise MagicUsageError(f"%dspex {command} takes no {given.words[1]!r}", hint="see %dspex --help")
    return COMMANDS[command](given)


def _lm(given: Arguments) -> Any:
    if len(given.words) < 2:  # noqa: PLR2004 - the command and the model
        raise MagicUsageError("%dspex lm needs a model string", hint="write e.g. %dspex lm local, or %dspex lm openai/gpt-5-mini")
    options = {name: literal(given.get(name)) for name in ("temperature", "max_tokens") if given.get(name) is not None}
    options |= {name: given.get(name) for name in ("api_base", "path") if given.get(name)}
    lm = api.LM(given.words[1], **options)
    api.warm_up(lm)
    api.configure(lm=lm)


def _cache(given: Arguments) -> Any:
    word = given.words[1] if len(given.words) > 1 else ""
    if word not in {"", *_CACHE_ACTS}:
        raise MagicUsageError(
            f"%dspex cache takes no {word!r}", hint=f"{did_you_mean(word, _CACHE_ACTS)}write %dspex cache, trim or clear after it"
        )
    trim, clear = (bool(given.get(act)) or word == act for act in _CACHE_ACTS)
    if trim and clear:
        raise MagicUsageError("%dspex cache was told to trim and to clear", hint="clear alone forgets everything")
    return api.cache_status("trim" if trim else "clear" if clear else "show")


_CACHE_ACTS = ("trim", "clear")
COMMANDS: dict[str, Callable[[Arguments], Any]] = {
    "lm": _lm,
    "status": lambda _: api.status(),
    "cache": _cache,
    "pools": lambda _: api.pool_status(),
    "runs": lambda _: api.run_list(),
    "optimizers": lambda _: api.optimizers(),
    "doctor": lambda _: api.doctor(),
}
