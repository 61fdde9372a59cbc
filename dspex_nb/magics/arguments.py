"""How a magic's line is read: options with did-you-mean, `--help`, and names for tab completion."""

from __future__ import annotations

import keyword
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.errors import MagicUsageError, did_you_mean

_NAMED = re.compile(r"\w=\Z")
_PAIRS = {"[": "]", "{": "}", "(": ")"}
_KEPT = re.compile("\0(\\d+)\0")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a magic.

    Attributes:
        name: Without the dashes; `n-jobs` is read as `n_jobs` in the result.
        help: One line.
        takes: What the value is, for `--help`; empty for a flag.
        many: Whether several values may follow (`--inputs a=1 b=2`).
        choices: Completed and checked where given.
    """

    name: str
    help: str
    takes: str = ""
    many: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a magic's line may hold.

    Attributes:
        magic: With its percent signs, as typed.
        positional: Names of the words before the options; those in brackets may be left out.
        summary: One line.
        example: Shown by `--help`.
        extra: Whether unknown options are kept for someone who knows them (an optimizer's own).
        expands: Whether IPython puts the text of `{variable}` and `$variable` into the line before we read it.
    """

    magic: str
    summary: str
    positional: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    example: str = ""
    extra: bool = False
    expands: bool = True

    def help_text(self) -> str:
        """Return what `--help` prints."""
        words = " ".join(self.positional)
        lines = [f"{self.magic} {words}".rstrip() + (" [options]" if self.options else ""), "", self.summary]
        if self.options:
            names = [f"--{o.name} {o.takes}".rstrip() for o in self.options]
            width = max(map(len, names))
            lines += ["", *(f"  {n.ljust(width)}  {o.help}" for n, o in zip(names, self.options, strict=True))]
        return "\n".join([*lines, "", "Example:", *(f"  {row}" for row in self.example.splitlines())] if self.example else lines)

    def parse(self, line: str) -> Arguments:
        """Read a line.

        Raises:
            MagicUsageError: An unknown option, a missing value or word, or an unclosed quote.
        """
        words, values, extra = _sort(self, _split(line, self.magic))
        required = [name for name in self.positional if not name.startswith("[")]
        if "help" not in values and len(words) < len(required):
            hint = f"write e.g. {self.example.splitlines()[0]}" if self.example else f"see {self.magic} --help"
            raise MagicUsageError(f"{self.magic} needs a {required[len(words)]} after it", hint=hint)
        if len(words) > len(self.positional):
            raise MagicUsageError(
                f"{self.magic} takes {len(self.positional)} word(s), got {' '.join(words)!r}", hint=f"see {self.magic} --help"
            )
        return Arguments(tuple(words), values, extra)

    def name_of(self, given: Arguments) -> str:
        """Return the first word, which the cell binds.

        Raises:
            MagicUsageError: It is no name of Python's.
        """
        name = given.words[0]
        if not name.isidentifier() or keyword.iskeyword(name):
            raise MagicUsageError(
                f"{name!r} is no Python name", hint=f"write e.g. {self.example.splitlines()[0].split(' --')[0]}"
            )
        return name


@dataclass(frozen=True, slots=True)
class Arguments:
    """A line as read: its words, its options by name, and those kept for someone else."""

    words: tuple[str, ...]
    values: Mapping[str, Any]
    extra: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an option's value."""
        return self.values.get(name, default)

    def number(self, name: str, kind: Callable[[Any], Any] = int) -> Any:
        """Return an option's value as a number, None where it is not given.

        Raises:
            MagicUsageError: It is none.
        """
        given = self.values.get(name)
        try:
            return None if given is None else kind(given)
        except (TypeError, ValueError):
            wanted = "a whole number" if kind is int else "a number"
            raise MagicUsageError(
                f"--{name.replace('_', '-')} takes {wanted}, got {given!r}", hint=f"write e.g. --{name.replace('_', '-')} 4"
            ) from None


def _split(line: str, magic: str) -> list[str]:
    """Return the words of a line as a shell would, but a value in brackets, `names=['Ann', 'Bo']`, stays as Python writes it."""
    kept: list[str] = []
    shown, quote, at = "", "", 0
    while at < len(line):
        char = line[at]
        if not quote and char in _PAIRS and _NAMED.search(line, 0, at) and (end := _closed(line, at)):
            shown += f"\0{len(kept)}\0"
            kept.append(line[at:end])
            at = end
            continue
        if char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        shown += char
        at += 1
    try:
        words = shlex.split(shown)
    except ValueError as error:
        raise MagicUsageError(f"{magic}: {error} in {line!r}", hint="close the quote") from error
    return [_KEPT.sub(lambda number: kept[int(number[1])], word) for word in words]


def _closed(line: str, start: int) -> int:
    """Return where the bracket at `start` is closed, past it; 0 if it is not."""
    open_, quote, at = [], "", start
    while at < len(line):
        char = line[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _PAIRS:
            open_.append(_PAIRS[char])
        elif char in _PAIRS.values():
            if char != open_.pop():
                return 0
            if not open_:
                return at + 1
        at += 1
    return 0


def _sort(usage: Usage, tokens: list[str]) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    known = {option.name: option for option in usage.options}
    words: list[str] = []
    values: dict[str, Any] = {}
    extra: dict[str, str] = {}
    index = 0
    while index < len(tokens):
        token, index = tokens[index], index + 1
        if not token.startswith("--") or token == "--":  # noqa: S105 - a word of the line
            words.append(token)
            continue
        name, equals, given = token[2:].partition("=")
        name = name.replace("_", "-")
        following = _following(tokens, index)
        if name in ("help", "h"):
            values["help"] = True
        elif name in known:
            index += _take(usage, known[name], values, [given] if equals else following, from_tokens=not equals)
        elif usage.extra:
            extra[name.replace("-", "_")] = given if equals else (following[0] if following else "True")
            index += bool(not equals and following)
        else:
            raise unknown_option(usage.magic, name, [*known, "help"])
    return words, values, extra


def _following(tokens: list[str], index: int) -> list[str]:
    rest = []
    for token in tokens[index:]:
        if token.startswith("--"):
            break
        rest.append(token)
    return rest


def _take(usage: Usage, option: Option, values: dict[str, Any], found: list[str], *, from_tokens: bool) -> int:
    key = option.name.replace("-", "_")
    if not option.takes:
        values[key] = True
        return 0
    if not found:
        raise MagicUsageError(f"{usage.magic}: --{option.name} needs {option.takes}", hint=f"see {usage.magic} --help")
    taken = found if option.many else found[:1]
    values[key] = taken if option.many else taken[0]
    if option.choices and not option.many and taken[0] not in option.choices:
        near = did_you_mean(taken[0], option.choices)
        raise MagicUsageError(
            f"{usage.magic}: --{option.name} {taken[0]!r} is none of {', '.join(option.choices)}",
            hint=near or "choose one of them",
        )
    return len(taken) if from_tokens else 0


def unknown_option(magic: str, name: str, known: Iterable[str]) -> MagicUsageError:
    """Return the error for an option nobody knows, with the nearest one."""
    names = [f"--{option}" for option in known]
    near = did_you_mean(f"--{name}", names)
    return MagicUsageError(f"{magic}: no option --{name}", hint=f"{near}options: {', '.join(names)}")
