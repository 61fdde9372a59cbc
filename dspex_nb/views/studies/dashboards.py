"""A study's dashboard as HTML: what it has reached and spent, one plot at a time, the trials, and the one that is opened."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dspex_nb.views.chart_svg import chart_svg
from dspex_nb.views.charts import Chart
from dspex_nb.views.formats import cost_text, count_text, one_line, plural, score_text, seconds_text, value_text
from dspex_nb.views.markup import (
    AMBER,
    BLUE,
    FAINT,
    GREEN,
    GREY,
    LINE,
    MUTED,
    Html,
    bar,
    button,
    chip,
    details,
    error_notice,
    frame,
    heading,
    join,
    mark,
    muted,
    notice,
    picture,
    press,
    search_box,
    section,
    state_chip,
    tag,
)
from dspex_nb.views.studies.estimates import estimate_to_go
from dspex_nb.views.studies.plots import PLOTS
from dspex_nb.views.studies.snapshots import StudySnapshot
from dspex_nb.views.studies.trial_details import TrialDetail, trial_detail_html
from dspex_nb.views.studies.trial_tables import TrialColumn, TrialsPage, columns_of, trials_page
from dspex_nb.views.tables import Column, facts_html, number, table_html, table_text

STILL_TRIALS = 25
QUICK = tuple(name for name, plot in PLOTS.items() if not plot.slow)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader of one dashboard has chosen to see: a plot, an order, a filter, a page, a trial, a call."""

    plot: str = "history"
    sort: str = "number"
    descending: bool = True
    query: str = ""
    page: int = 0
    trial: int | None = None
    call: int | None = None


def dashboard_html(
    snapshot: StudySnapshot, reading: Reading, chart: Chart, detail: TrialDetail | None = None, *, still: bool = False
) -> str:
    """Draw the live dashboard.

    Args:
        snapshot: The study.
        reading: What its reader has chosen.
        chart: The chosen plot.
        detail: The opened trial.
        still: Draw the plot as a picture: the front end has no plotly.
    """
    page = trials_page(snapshot, sort=reading.sort, descending=reading.descending, query=reading.query, page=reading.page)
    return frame(
        _head(snapshot, _buttons(snapshot)),
        _tabs(reading),
        chart_html(chart) if still or chart.empty else _slot(reading.plot, chart),
        _trials(snapshot, reading, page, detail),
        _options(snapshot),
    )


def dashboard_still(snapshot: StudySnapshot, opened: Mapping[int, TrialDetail], plots: Collection[str] = QUICK) -> str:
    """Draw the dashboard for a saved notebook: plots as pictures, the best trials, those in `opened` with their changes."""
    drawn = {name: plot for name, plot in PLOTS.items() if name in plots}
    pictures = [details(plot.tab, chart_html(plot.chart(snapshot)), opened=name == "history") for name, plot in drawn.items()]
    page = trials_page(snapshot, sort="best", size=STILL_TRIALS)
    shown, rows = columns_of(snapshot), []
    for row in page.rows.tolist():
        cells = [column.write(snapshot.trials, row) for column in shown]
        detail = opened.get(int(snapshot.trials.number[row]))
        if detail is not None:
            cells[1] = details(cells[1], trial_detail_html(detail, live=False), tight=True)
        rows.append(cells)
    columns = [number(c.heading) if c.numeric else Column(c.heading, width="40%" if c.field == "label" else "") for c in shown]
    table = table_html(columns, rows, total=page.total, rest="study.trials", empty="no trial has begun")
    note = f"the {len(rows)} best of {page.total:,}" if page.total > len(rows) else "the best first"
    return frame(_head(snapshot, Html("")), *pictures, section("Trials", note), table, _options(snapshot))


def chart_html(made: Chart) -> Html:
    """Draw a chart as a picture with its words, or say why there is nothing to draw."""
    if made.empty:
        return tag(
            "div",
            tag("strong", made.title, style="font-weight: 600;"),
            tag("div", muted(made.empty)),
            style="padding: 10px 0 14px 0;",
        )
    return picture(chart_svg(made.traces, made.layout), made.alt)


def _slot(name: str, made: Chart) -> Html:
    """Return where the front end draws the plot; until it has, the words stand there."""
    height = int(made.layout.get("height", 380))
    words = tag("div", made.alt, style=f"color: {MUTED}; padding: 16px 0;")
    return tag(
        "div", words, data_dspex_figure=name, role="img", aria_label=made.alt, style=f"height: {height}px; margin: 2px 0 4px 0;"
    )


# The head


def _head(snapshot: StudySnapshot, buttons: Html) -> Html:
    facts = snapshot.facts
    kind = f"study · {facts.optimizer}" if facts.optimizer else "study"
    parts: list[Html | str] = [
        heading(facts.name, state_chip(facts.status), buttons, kind=kind),
        _scores(snapshot),
        _progress(snapshot),
        _spent(snapshot),
    ]
    if facts.status == "interrupted":
        parts.append(tag("div", muted("The kernel that ran it ended. What was scored is kept."), style="margin: 4px 0;"))
    if facts.error:
        parts.append(error_notice(facts.error))
    if facts.note:
        parts.append(notice(facts.note, color=GREEN))
    return join(*parts)


def _buttons(snapshot: StudySnapshot) -> Html:
    facts = snapshot.facts
    shown: list[Html] = []
    if facts.status in {"running", "waiting"}:
        shown.append(button("pause", "Pause"))
    if facts.status in {"paused", "pausing"} or (not facts.live and facts.resumable):
        shown.append(button("resume", "Resume"))
    if facts.live and facts.status != "stopping":
        shown.append(button("stop", "Stop", danger=True))
    if facts.adoptable and snapshot.best is not None and facts.status not in {"running", "waiting", "stopping"}:
        shown.append(button("adopt", "Adopt best"))
    return join(*shown)


def _scores(snapshot: StudySnapshot) -> Html:
    best, trials, facts = snapshot.best, snapshot.trials, snapshot.facts
    if best is None:
        return tag("div", muted("no trial has been scored yet"), style="margin: 4px 0;")
    score, start = float(trials.score[best]), snapshot.start
    big = tag("span", score_text(score), style="font-size: 26px; font-weight: 600; line-height: 34px; margin-right: 8px;")
    label = tag("strong", "best so far" if facts.live else "best", style="font-weight: 500;")
    part = " on a part of the examples" if trials.kind[best] == "minibatch" else ""
    against = muted(f" · start {score_text(start)} · ", tag("span", f"{score - start:+.3f}")) if start is not None else ""
    metric = (
        tag("div", muted(f"{facts.metric} on the optimizer's own validation examples"), style="font-size: 12px;")
        if facts.metric
        else ""
    )
    return tag("div", big, " ", label, muted(f" (trial {trials.number[best]}{part})"), against, metric)


def _progress(snapshot: StudySnapshot) -> Html:
    facts = snapshot.facts
    if not facts.total and not facts.expected_calls:
        return Html("")
    if not facts.total:
        asked = (facts.calls + facts.cache_hits) / facts.expected_calls
        return bar(1.0 if facts.status == "done" else min(asked, 1.0), color=_color(snapshot))
    within = facts.done_rows / facts.total_rows if facts.total_rows and facts.live else 0.0
    share = 1.0 if facts.status == "done" else min((snapshot.done + min(within, 1.0)) / facts.total, 1.0)
    return bar(share, color=_color(snapshot))


def _color(snapshot: StudySnapshot) -> str:
    return GREEN if snapshot.facts.status == "done" else BLUE if snapshot.facts.live else GREY


def _spent(snapshot: StudySnapshot) -> Html:
    facts = snapshot.facts
    rows = f" · example {facts.done_rows}/{facts.total_rows}" if facts.live and facts.total_rows else ""
    trials = f"{snapshot.done:,} / {facts.total:,}" if facts.total else f"{snapshot.done:,}"
    chips = [
        chip(tag("strong", trials), muted(" trials", rows)),
        chip(plural(facts.calls, "LM call")),
        chip(mark("cached"), " ", plural(facts.cache_hits, "cache hit")),
        chip(count_text(facts.prompt_tokens), " in · ", count_text(facts.completion_tokens), " out ", muted("tokens")),
        *_money(snapshot),
        chip(seconds_text(facts.elapsed_s), *_to_go(snapshot)),
    ]
    return tag("div", *chips)


def _money(snapshot: StudySnapshot) -> list[Html]:
    """Return what was paid, what the cache saved, and what nobody knows: never one sum of the three."""
    facts = snapshot.facts
    nothing = not facts.paid and facts.unpriced
    ahead = estimate_to_go(snapshot)
    more = f", {ahead.word} {cost_text(ahead.cost)} to go" if ahead.cost else ""
    chips = [chip(muted("paid "), "unknown" if nothing else cost_text(facts.paid), muted(more))]
    if facts.saved:
        chips.append(chip(muted("saved "), cost_text(facts.saved), muted(" by the cache")))
    if facts.unpriced:
        chips.append(chip(muted("price unknown of "), plural(facts.unpriced, "call"), color=AMBER))
    if facts.budget:
        chips.append(chip(muted("budget "), facts.budget))
    return chips


def _to_go(snapshot: StudySnapshot) -> list[Html]:
    if not snapshot.facts.live:
        return []
    ahead = estimate_to_go(snapshot)
    if ahead.seconds is not None:
        return [muted(f", {ahead.word} {seconds_text(ahead.seconds)} to go")]
    return [muted(", to go: the optimizer decides as it goes")] if snapshot.done and not snapshot.facts.total else []


# Plots and trials


def _tabs(reading: Reading) -> Html:
    tabs = []
    for name, plot in PLOTS.items():
        chosen = name == reading.plot
        edge = f"border-bottom: 2px solid {BLUE if chosen else 'transparent'};"
        look = f"padding: 4px 7px 3px 7px; font-size: 12.5px; font-weight: {600 if chosen else 400}; {edge}"
        tabs.append(press("plot", name, plot.tab, style=look, role="tab", aria_selected=str(chosen).lower()))
    return tag("div", *tabs, role="tablist", aria_label="plots", style=f"margin: 10px 0 0 0; border-bottom: 1px solid {LINE};")


def _trials(snapshot: StudySnapshot, reading: Reading, page: TrialsPage, detail: TrialDetail | None) -> Html:
    found = f"{page.found:,} of {page.total:,}" if page.found < page.total else f"{page.total:,}"
    title = tag("strong", "Trials ", style="font-weight: 600;")
    field = search_box(
        "filter", "filter: words, score>0.7, kind:minibatch, errors>0", value=reading.query, label="filter trials", width="300px"
    )
    head = tag("div", title, muted(found, " "), field, _pager(page), style="margin: 12px 0 4px 0;")
    problem = tag("div", mark("failed"), " ", page.problem, style=f"color: {MUTED}; font-size: 12px;") if page.problem else ""
    if not len(page.rows):
        empty = "no trial has begun" if not page.total else "no trial fits the filter"
        return join(head, problem, tag("div", muted(empty), style="padding: 4px 0;"))
    columns, best = columns_of(snapshot), snapshot.best
    rows: list[Html] = []
    for row in page.rows.tolist():
        opened = int(snapshot.trials.number[row]) == reading.trial
        rows.append(_row(snapshot, row, columns, best=best == row, opened=opened))
        if opened and detail is not None:
            inside = tag("div", trial_detail_html(detail), style="padding: 2px 4px 12px 14px;")
            rows.append(
                tag(
                    "tr",
                    tag("td", inside, colspan=len(columns), style="padding: 0; text-align: left; white-space: normal;"),
                    style=f"background: {FAINT};",
                )
            )
    if detail is not None and reading.trial not in snapshot.trials.number[page.rows].tolist():
        rows.append(_elsewhere(detail, len(columns)))
    headings = tag(
        "tr", *(_heading(column, reading) for column in columns), style=f"background: none; border-bottom: 1px solid {LINE};"
    )
    look = "border-collapse: collapse; border: none; width: 100%; margin: 2px 0; font-size: 13px; table-layout: auto;"
    table = tag("table", tag("thead", headings), tag("tbody", *rows), style=look)
    return join(head, problem, tag("div", table, style="overflow-x: auto;"))


def _elsewhere(detail: TrialDetail, width: int) -> Html:
    """Return the opened trial where the page does not hold it: a point of a plot was clicked, or the order changed."""
    title = tag("strong", f"Trial {detail.trial.trial}: {score_text(detail.trial.score)}", style="font-weight: 600;")
    close = press("trial", "", "close", style=f"color: {MUTED}; font-size: 12px; margin-left: 10px; text-decoration: underline;")
    inside = tag("div", title, close, trial_detail_html(detail), style="padding: 6px 4px 12px 14px;")
    return tag(
        "tr",
        tag("td", inside, colspan=width, style="padding: 0; text-align: left; white-space: normal;"),
        style=f"background: {FAINT};",
    )


def _pager(page: TrialsPage) -> Html:
    if page.pages == 1:
        return Html("")
    look = f"border: 1px solid {LINE}; border-radius: 4px; padding: 0 8px; margin: 0 4px; font-size: 12px; line-height: 20px;"
    back = press("page", page.page - 1, "◂", style=look, aria_label="previous page") if page.page else Html("")
    on = press("page", page.page + 1, "▸", style=look, aria_label="next page") if page.page + 1 < page.pages else Html("")
    return tag("span", back, muted(f" page {page.page + 1} of {page.pages:,} "), on, style="float: right; font-size: 12px;")


def _heading(column: TrialColumn, reading: Reading) -> Html:
    sorted_ = column.field == reading.sort
    arrow = (" ▾" if reading.descending else " ▴") if sorted_ else ""
    look = f"font-size: 12px; font-weight: {600 if sorted_ else 500}; white-space: nowrap; color: {MUTED};"
    side = "right" if column.numeric else "left"
    shown = press("sort", column.field, column.heading, arrow, style=look)
    order = ("descending" if reading.descending else "ascending") if sorted_ else None
    return tag("th", shown, style=f"text-align: {side}; padding: 3px 10px 3px 0; background: none;", scope="col", aria_sort=order)


def _row(snapshot: StudySnapshot, row: int, columns: Sequence[TrialColumn], *, best: bool, opened: bool) -> Html:
    trials = snapshot.trials
    cells = []
    for column in columns:
        value = column.write(trials, row)
        shown: object = value
        if column.field == "number":
            shown = press("trial", "" if opened else value, "▾ " if opened else "▸ ", value, aria_expanded=str(opened).lower())
        elif column.field == "label" and trials.status[row] != "done":
            shown = join(value, " ", mark(str(trials.status[row])), " ", muted(trials.status[row]))
        elif column.field == "score" and best:
            shown = tag("strong", "★ ", value, style=f"color: {GREEN}; font-weight: 600;")
        elif column.field == "errors" and value:
            shown = join(mark("failed"), value)
        side = "right" if column.numeric else "left"
        wrap = "" if column.field == "label" else " white-space: nowrap;"
        width = " width: 40%; min-width: 132px;" if column.field == "label" else ""
        digits = " font-variant-numeric: tabular-nums;" if column.numeric else ""
        look = f"text-align: {side}; vertical-align: top; padding: 3px 10px 3px 0;{wrap}{width}{digits}"
        cells.append(tag("td", shown, style=look))
    number_ = int(trials.number[row])
    look = f"background: {FAINT if opened else 'none'}; border-bottom: 1px solid {LINE}; cursor: pointer;"
    return tag("tr", *cells, style=look, data_dspex_action="trial", data_dspex_value="" if opened else number_)


def _options(snapshot: StudySnapshot) -> Html:
    options = snapshot.facts.options
    return (
        details("Options", facts_html([(str(name), value_text(value)) for name, value in options.items()]))
        if options
        else Html("")
    )


# Words


def dashboard_text(snapshot: StudySnapshot) -> str:
    """Write a study as text."""
    facts, trials, best, start = snapshot.facts, snapshot.trials, snapshot.best, snapshot.start
    using = facts.optimizer or "an optimizer"
    done = f"{snapshot.done}/{facts.total or '?'} trials"
    lines = [f"study of {facts.name} with {using}: {facts.status}, {done}, {seconds_text(facts.elapsed_s)}"]
    began = f", start {score_text(start)}" if start is not None else ""
    scored = f"best {score_text(float(trials.score[best]))} (trial {trials.number[best]}){began}" if best is not None else ""
    lines.append(scored or "no trial has been scored yet")
    tokens = plural(facts.prompt_tokens + facts.completion_tokens, "token")
    paid = "unknown" if not facts.paid and facts.unpriced else cost_text(facts.paid)
    saved = f", saved {cost_text(facts.saved)}" if facts.saved else ""
    unknown = f", price unknown of {plural(facts.unpriced, 'call')}" if facts.unpriced else ""
    lines.append(
        f"{plural(facts.calls, 'LM call')}, {plural(facts.cache_hits, 'cache hit')}, {tokens}, paid {paid}{saved}{unknown}"
    )
    columns = columns_of(snapshot)
    rows = [
        [one_line(str(column.write(trials, row)), 44) for column in columns]
        for row in trials_page(snapshot, sort="best", size=STILL_TRIALS).rows.tolist()
    ]
    if rows:
        lines.append(table_text([number(c.heading.lower()) if c.numeric else c.heading.lower() for c in columns], rows))
        left = len(trials) - len(rows)
        lines += [f"… {left:,} more"] if left > 0 else []
    return "\n".join([*lines, *(extra for extra in (facts.error, facts.note) if extra)])
