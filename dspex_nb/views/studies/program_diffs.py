"""Two candidate programs compared: instructions word by word, demos by what came and went."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.store.rows import TrialRow
from dspex_nb.views.markup import Html, frame, heading, muted, section, tag
from dspex_nb.views.studies.snapshots import demos_of, instructions_of
from dspex_nb.views.studies.trial_details import demos_diff_html, diff_html


@dataclass(frozen=True, slots=True)
class ProgramDiff:
    """What a trial's program changed.

    Attributes:
        title: Which trials are compared.
        before: Instructions by predictor of the program it is compared with; `after` of the trial's.
        had: Demos by predictor of the former; `has` of the latter.
    """

    title: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    had: Mapping[str, Sequence[Any]]
    has: Mapping[str, Sequence[Any]]


def program_diff(trial: TrialRow, against: TrialRow) -> ProgramDiff:
    """Compare a trial with another."""
    title = f"trial {trial.trial} ({_score(trial)}) against trial {against.trial} ({against.kind}, {_score(against)})"
    return ProgramDiff(
        title, instructions_of(against.info), instructions_of(trial.info), demos_of(against.info), demos_of(trial.info)
    )


def program_diff_html(diff: ProgramDiff) -> str:
    """Draw it."""
    parts: list[Html] = []
    for name, text in diff.after.items():
        parts += [section("Instructions", name), diff_html(diff.before.get(name, ""), text)]
    for name, demos in diff.has.items():
        if demos or diff.had.get(name):
            parts += [section("Demos", name), demos_diff_html(demos, diff.had.get(name, ()))]
    shown = parts or [tag("div", muted("this trial's instructions and demos were not recorded"))]
    return frame(heading(diff.title, kind="diff"), *shown)


def program_diff_text(diff: ProgramDiff) -> str:
    """Write it as a unified diff."""
    return "\n".join([diff.title, *_lines(diff)])


def _lines(diff: ProgramDiff) -> Iterator[str]:
    for name, text in diff.after.items():
        changes = list(difflib.unified_diff(diff.before.get(name, "").splitlines(), text.splitlines(), lineterm="", n=1))[2:]
        yield f"{name}: instructions {'changed' if changes else 'unchanged'}"
        yield from (f"  {line}" for line in changes if not line.startswith("@@"))
    for name, demos in diff.has.items():
        old, new = ([_demo(one) for one in some] for some in (diff.had.get(name, ()), demos))
        yield f"{name}: {len(new)} demos, {sum(one not in old for one in new)} of them new"
        yield from (f"  + {one}" for one in new if one not in old)
        yield from (f"  - {one}" for one in old if one not in new)


def _demo(demo: Any) -> str:
    return json.dumps(demo, sort_keys=True, ensure_ascii=False, default=str)


def _score(trial: TrialRow) -> str:
    return trial.status if trial.score is None else f"{trial.score:.3f}"
