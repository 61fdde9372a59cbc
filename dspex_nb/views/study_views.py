"""A study's dashboard and its history as a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspex_nb.views.figures import GRID, figure_bundle, figure_layout
from dspex_nb.views.formats import cost_text, count_text, one_line, plural, score_text, seconds_text, value_text
from dspex_nb.views.markup import (
    BLUE,
    GREEN,
    GREY,
    MUTED,
    Html,
    bar,
    button,
    chip,
    clean,
    details,
    error_notice,
    frame,
    heading,
    join,
    mark,
    muted,
    pre,
    section,
    state_chip,
    tag,
)
from dspex_nb.views.study_states import StudyInfo, StudyState, TrialInfo
from dspex_nb.views.svg import document, text_at
from dspex_nb.views.tables import Column, facts_html, number, table_html, table_text

_KINDS = {"start": "as it was", "minibatch": "on a part"}


def _info(state: StudyState | StudyInfo) -> StudyInfo:
    return state.snapshot() if isinstance(state, StudyState) else state


def study_html(state: StudyState | StudyInfo, *, buttons: bool = True) -> str:
    """Draw a study as HTML; its buttons are the actions `stop`, `pause` and `resume`, and `adopt` after its end."""
    info = _info(state)
    kind = f"study · {info.optimizer}" if info.optimizer else "study"
    shown = _buttons(info) if buttons else ""
    parts: list[Html | str] = [
        heading(info.name, state_chip("stopped" if info.status == "cancelled" else info.status), shown, kind=kind),
        _scores(info),
        _progress(info),
        _spent(info),
    ]
    if info.status == "interrupted":
        parts.append(tag("div", muted("The kernel that ran it ended. What was scored is kept."), style="margin: 4px 0;"))
    parts += [error_notice(info.error) if info.error else "", tag("div", info.note, style="margin: 6px 0;") if info.note else ""]
    parts += [section("Trials") if info.trials else "", _trials(info), _options(info)]
    return frame(*parts)


def _done(info: StudyInfo) -> int:
    return sum(t.state not in {"running", "cancelled"} for t in info.trials)


def _buttons(info: StudyInfo) -> Html:
    if info.status in {"running", "waiting"}:
        return join(button("pause", "Pause"), button("stop", "Stop", danger=True))
    if info.status in {"paused", "pausing"}:
        return join(button("resume", "Resume"), button("stop", "Stop", danger=True))
    if not info.live and info.adoptable and info.best is not None:
        return button("adopt", "Adopt best")
    return Html("")


def _scores(info: StudyInfo) -> Html:
    best = info.best
    if best is None or best.score is None:
        return tag("div", muted("no trial has been scored yet"), style="margin: 4px 0;")
    big = tag("span", score_text(best.score), style="font-size: 26px; font-weight: 600; line-height: 34px; margin-right: 8px;")
    label = tag("strong", "best so far" if info.live else "best", style="font-weight: 500;")
    against = ""
    if info.start is not None:
        against = muted(f" · start {score_text(info.start)} · {best.score - info.start:+.3f}")
    metric = muted(f" {info.metric} on the optimizer's own validation examples") if info.metric else ""
    return tag(
        "div",
        big,
        " ",
        label,
        muted(f" (trial {best.number})"),
        against,
        tag("div", metric, style="font-size: 12px;") if metric else "",
    )


def _progress(info: StudyInfo) -> Html:
    done = _done(info)
    if not info.total:
        return Html("")
    within = info.done_rows / info.total_rows if info.total_rows and info.live else 0.0
    share = 1.0 if info.status == "done" else min((done + min(within, 1.0)) / info.total, 1.0)
    return bar(share, color=GREEN if info.status == "done" else BLUE if info.live else GREY)


def _spent(info: StudyInfo) -> Html:
    done = _done(info)
    rows = f" · example {info.done_rows}/{info.total_rows}" if info.live and info.total_rows and info.done_rows else ""
    trials = f"{done} / {info.total}" if info.total else str(done)
    chips = [
        chip(tag("strong", trials), muted(" trials", rows)),
        chip(plural(info.calls, "LM call")),
        chip(mark("cached"), " ", plural(info.cache_hits, "cache hit")),
        chip(count_text(info.prompt_tokens), " in · ", count_text(info.completion_tokens), " out ", muted("tokens")),
        chip(muted("cost "), cost_text(info.cost)),
        chip(seconds_text(info.elapsed_s)),
    ]
    return tag("div", *chips)


def _trials(info: StudyInfo) -> Html:
    best = info.best
    rows = [_row(trial, best=best is not None and trial.number == best.number) for trial in reversed(info.trials)]
    columns = [
        number("#"),
        Column("Tried", width="55%"),
        number("Score"),
        Column("", wrap=False),
        number("Demos"),
        number("Time"),
    ]
    return table_html(columns, rows, rest=".trials", empty="no trial has begun")


def _row(trial: TrialInfo, *, best: bool) -> tuple[object, ...]:
    star = tag("span", "★ best", style=f"color: {GREEN}; font-weight: 600; white-space: nowrap;") if best else Html("")
    state = star if trial.state == "done" else tag("span", mark(trial.state), " ", trial.state, style="white-space: nowrap;")
    score = tag("strong", score_text(trial.score), style="font-weight: 600;") if best else score_text(trial.score)
    demos = "" if trial.demos is None else str(trial.demos)
    return str(trial.number), _tried(trial), score, state, demos, seconds_text(trial.elapsed_s)


def _tried(trial: TrialInfo) -> Html:
    what = trial.what or f"candidate {trial.number}"
    if trial.kind in _KINDS:
        what = f"{_KINDS[trial.kind]}: {what}"
    parts: list[Html] = []
    for name, told in trial.instructions.items():
        parts += [section("Instructions", name), pre(told, max_height_px=220)]
    if trial.demo_list:
        parts += [section(plural(len(trial.demo_list), "demo")), *(_demo(demo) for demo in trial.demo_list)]
    if trial.failed_rows:
        parts.insert(0, tag("div", mark("failed"), " ", plural(trial.failed_rows, "example"), " ended in an error"))
    error = tag("div", trial.error, style=f"color: {MUTED}; overflow-wrap: anywhere;") if trial.error else ""
    return join(details(one_line(what, 90), *parts, tight=True) if parts else one_line(what, 90), error)


def _demo(demo: object) -> Html:
    if isinstance(demo, Mapping):
        return facts_html([(str(name), value) for name, value in demo.items()])
    return pre(value_text(demo), max_height_px=160)


def _options(info: StudyInfo) -> Html:
    return details("Options", facts_html(list(info.options.items()))) if info.options else Html("")


def study_text(state: StudyState | StudyInfo) -> str:
    """Write a study as text."""
    info = _info(state)
    best = info.best
    done = _done(info)
    trials = f"{done}/{info.total or '?'} trials"
    using = info.optimizer or "an optimizer"
    lines = [f"study of {info.name} with {using}: {info.status}, {trials}, {seconds_text(info.elapsed_s)}"]
    start = f", start {score_text(info.start)}" if info.start is not None else ""
    lines.append(f"best {score_text(best.score)} (trial {best.number}){start}" if best else "no trial has been scored yet")
    tokens = plural(info.prompt_tokens + info.completion_tokens, "token")
    served = f"{plural(info.calls, 'LM call')}, {plural(info.cache_hits, 'cache hit')}"
    lines.append(f"{served}, {tokens}, cost {cost_text(info.cost)}")
    rows = [
        (
            t.number,
            t.what,
            score_text(t.score),
            "best" if best and t.number == best.number else t.state,
            "" if t.demos is None else t.demos,
            seconds_text(t.elapsed_s),
        )
        for t in info.trials
    ]
    if rows:
        lines.append(table_text([number("#"), "tried", number("score"), "", number("demos"), number("time")], rows))
    return "\n".join([*lines, *(extra for extra in (info.error, info.note) if extra)])


@dataclass(frozen=True, slots=True)
class HistoryInfo:
    """The curve of a study as columns of equal length.

    Attributes:
        title: The figure's title.
        numbers: Numbers of the scored trials, ascending.
        scores: Their scores.
        best: The best score up to each.
        what: What each tried.
        start: Score of the program as it was, None if unknown.
        metric: The metric's name.
    """

    title: str
    numbers: tuple[int, ...]
    scores: tuple[float, ...]
    best: tuple[float, ...]
    what: tuple[str, ...]
    start: float | None = None
    metric: str = "score"


def history_info(state: StudyState | StudyInfo) -> HistoryInfo:
    """Return the curve of a study; its columns are empty while nothing is scored."""
    info = _info(state)
    numbers, scores, best, what = [], [], [], []
    for i, trial in enumerate(info.trials):
        if trial.score is None:
            continue
        leader = replace(info, trials=info.trials[: i + 1]).best
        numbers.append(trial.number)
        scores.append(trial.score)
        best.append(leader.score if leader and leader.score is not None else trial.score)
        what.append(one_line(clean(trial.what), 60))
    title = f"{info.name}: {info.optimizer}" if info.optimizer else info.name
    return HistoryInfo(title, tuple(numbers), tuple(scores), tuple(best), tuple(what), info.start, info.metric or "score")


def _range(info: HistoryInfo) -> tuple[float, float]:
    values = [*info.scores, *([] if info.start is None else [info.start])] or [0.0, 1.0]
    low, high = min(values), max(values)
    room = max((high - low) * 0.15, 0.02)
    return max(low - room, -0.02), min(high + room, 1.02) if high <= 1 else high + room


def plot_history(state: HistoryInfo | StudyState | StudyInfo) -> Any:
    """Draw each trial's score, the best so far as a step line, and the start as a dashed line."""
    import plotly.graph_objects as go

    info = state if isinstance(state, HistoryInfo) else history_info(state)
    figure = go.Figure()
    hover = [_plain(text) for text in info.what]
    figure.add_trace(
        go.Scatter(
            x=info.numbers, y=info.best, mode="lines", name="best so far", line={"shape": "hv", "color": GREEN, "width": 2.5},
            hovertemplate="best so far %{y:.3f}<extra></extra>",
        ),
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=info.numbers, y=info.scores, mode="markers", name="trial", customdata=hover,
            marker={"color": BLUE, "size": 9, "line": {"width": 0}},
            hovertemplate="trial %{x}: %{y:.3f}<br>%{customdata}<extra></extra>",
        ),
    )  # fmt: skip
    if info.start is not None:
        ends = [min(info.numbers, default=0), max(info.numbers, default=1)]
        figure.add_trace(
            go.Scatter(
                x=ends if ends[0] < ends[1] else [ends[0] - 0.5, ends[0] + 0.5], y=[info.start] * 2, mode="lines", name="start",
                line={"dash": "dash", "color": GREY, "width": 1.5}, hovertemplate="start %{y:.3f}<extra></extra>",
            ),
        )  # fmt: skip
    figure.update_layout(**figure_layout(_plain(info.title)))
    whole = len(info.numbers) <= 25  # noqa: PLR2004 - more ticks than that run into each other
    figure.update_xaxes(title_text="trial", title_font_size=12, gridcolor=GRID, zeroline=False, **({"dtick": 1} if whole else {}))
    figure.update_yaxes(
        title_text=_plain(f"{info.metric} (0 to 1)"),
        title_font_size=12,
        gridcolor=GRID,
        zeroline=False,
        range=list(_range(info)),
        tickformat=".2f",
    )
    return figure


def _plain(text: str) -> str:
    """Return text that plotly, which reads a few tags, shows as it is."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;")


def history_svg(state: HistoryInfo | StudyState | StudyInfo) -> str:
    """Draw the history as a plain SVG, for where no plotly runs."""
    info = state if isinstance(state, HistoryInfo) else history_info(state)
    width, height, left, top, right, bottom = 640, 260, 54, 40, 18, 40
    low, high = _range(info)
    first, last = (min(info.numbers), max(info.numbers)) if info.numbers else (0, 1)

    def x(number: float) -> float:
        return left + (width - left - right) * ((number - first) / (last - first) if last > first else 0.5)

    def y(score: float) -> float:
        return top + (height - top - bottom) * (1 - (score - low) / (high - low))

    parts = [text_at(12, 20, info.title, css="onpage", size_px=13, more='font-weight="600"')]
    parts.append(
        text_at(
            width - right,
            20,
            "● trial   ━ best so far" + ("   ┄ start" if info.start is not None else ""),
            css="onpage",
            size_px=11,
            more='text-anchor="end"',
        )
    )
    for i in range(5):
        at = low + (high - low) * i / 4
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>')
        parts.append(text_at(left - 6, y(at) + 4, f"{at:.2f}", css="onpage", size_px=11, more='text-anchor="end"'))
    parts += [text_at(x(n), height - 20, n, css="onpage", size_px=11, more='text-anchor="middle"') for n in _ticks(info.numbers)]
    parts.append(text_at((left + width - right) / 2, height - 5, "trial", css="onpage", size_px=11, more='text-anchor="middle"'))
    if info.start is not None:
        ends = f'x1="{left}" x2="{width - right}" y1="{y(info.start):.1f}" y2="{y(info.start):.1f}"'
        parts.append(f'<line {ends} stroke="{GREY}" stroke-dasharray="5 4"/>')
    if info.numbers:
        path = f"M{x(info.numbers[0]):.1f} {y(info.best[0]):.1f}"
        path += "".join(f"H{x(n):.1f}V{y(b):.1f}" for n, b in zip(info.numbers[1:], info.best[1:], strict=True))
        parts.append(f'<path d="{path}" fill="none" stroke="{GREEN}" stroke-width="2.5"/>')
    parts += [
        f'<circle cx="{x(n):.1f}" cy="{y(s):.1f}" r="4" fill="{BLUE}"/>' for n, s in zip(info.numbers, info.scores, strict=True)
    ]
    return document(width, height, "".join(parts), f"history of {info.title}")


def _ticks(numbers: Sequence[int]) -> Sequence[int]:
    every = max(len(numbers) // 12, 1)
    return numbers[::every]


def history_bundle(state: HistoryInfo | StudyState | StudyInfo) -> dict[str, Any] | None:
    """Return the history as a notebook stores it, None while nothing is scored."""
    info = state if isinstance(state, HistoryInfo) else history_info(state)
    if not info.numbers:
        return None
    text = f"scores by trial: {', '.join(f'{n}: {s:.3f}' for n, s in zip(info.numbers, info.scores, strict=True))}"
    return figure_bundle(plot_history(info), history_svg(info), text)
