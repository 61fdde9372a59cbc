"""What a study shows: its plots, its live dashboard, and several studies side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspex_nb.ambient import Session
from dspex_nb.api.displays import ShownOnce, in_notebook, show
from dspex_nb.api.sessions import session
from dspex_nb.errors import StudyError, did_you_mean
from dspex_nb.runs import studies as runs

if TYPE_CHECKING:  # they import numpy
    from dspex_nb.store import CallRow, TrialRow
    from dspex_nb.views.charts import Chart
    from dspex_nb.views.studies import CallText, StudyColumns, StudyFacts, StudySnapshot, TrialDetail

_STILL_OPENED = 3
_LAST_PICTURE_S = 5.0
_GROWN = 1.2
_RUNNING = ("running", "paused", "pausing", "stopping", "waiting")


@dataclass(slots=True)
class Shown:
    """What no table knows and a dashboard shows: a note on the outcome, and what can still be done."""

    note: str = ""
    adoptable: bool = True
    resumable: bool = False
    rows: Sequence[Mapping[str, Any]] = ()


class StudyFeed:
    """Reads a study from the run store, each time only what is new there.

    Args:
        store: The run store.
        run_id: The study.
        status: Says its status now; the store does not know of a pause.
        cache: Holds the texts of its LM calls.
    """

    def __init__(self, store: Any, run_id: str, status: Callable[[], str] | None = None, cache: Any = None) -> None:
        self.run_id, self.shown, self.version = run_id, Shown(), 0
        self._store, self._status, self._cache = store, status, cache
        self._columns: StudyColumns | None = None
        self._lock = threading.Lock()
        self._trials_seen = self._examples_seen = 0
        self._last: StudySnapshot | None = None

    def snapshot(self, *, examples: bool = True) -> StudySnapshot:
        """Return the study as it is now; without `examples` those of single examples may be behind, or not there yet."""
        from dspex_nb.views.studies import StudyColumns

        with self._lock:
            self._columns = self._columns or StudyColumns()
            rows = self._store.trials(self.run_id, since=self._trials_seen)
            if rows:
                self._trials_seen = max(row.seq for row in rows)
                self._columns.take_trials(rows)
            scored = self._store.examples(self.run_id, since=self._examples_seen) if examples else []
            if scored:
                self._examples_seen = scored[-1].seq
                self._columns.take_examples(scored)
            self.version += bool(rows or scored)
            facts = self._facts(rows)
            if self._last is None or rows or scored or self._last.facts.live != facts.live:
                self._last = self._columns.snapshot(facts)
            else:
                self._last = replace(self._last, facts=facts)
            return self._last

    def detail(self, number: int, opened: int | None = None) -> TrialDetail | None:
        """Return a trial with what it was made from, its examples and its first LM calls; None if there is no such trial."""
        from dspex_nb.views.studies import MOST_CALLS, TrialDetail

        trial = self._store.trial(self.run_id, number)
        if trial is None:
            return None
        against, relation = self._against(trial)
        calls = self._store.calls(self.run_id, trial=number, limit=MOST_CALLS)
        text = next((self._text(call) for call in calls if call.seq == opened), None)
        examples = self._store.examples(self.run_id, trial=number)
        rows = {row.index: self.shown.rows[row.index] for row in examples if 0 <= row.index < len(self.shown.rows)}
        return TrialDetail(trial, against, relation, examples, rows, calls, trial.calls + trial.cache_hits, opened, text)

    def _against(self, trial: TrialRow) -> tuple[TrialRow | None, str]:
        parent = self._store.trial(self.run_id, trial.parent) if trial.parent is not None else None
        if parent is not None:
            return parent, "parent"
        start = None
        if self._last is not None and trial.kind != "start":
            trials = self._last.trials
            found = trials.number[trials.kind == "start"]
            start = self._store.trial(self.run_id, int(found[0])) if len(found) else None
        return start, "start" if start is not None else ""

    def _text(self, call: CallRow) -> CallText | None:
        from dspex_nb.views.studies import CallText

        kept = self._cache.peek(call.key) if self._cache is not None and call.key else None
        if kept is None:
            return None
        return CallText(kept.get("messages"), [str(one.get("text", "")) for one in kept.get("outputs", ())])

    def _facts(self, fresh: Sequence[TrialRow]) -> StudyFacts:
        from dspex_nb.views.studies import StudyFacts

        row = self._store.run(self.run_id)
        if row is None:
            raise StudyError(f"study {self.run_id} is not in {self._store.path}", hint="dx.studies() lists those that are")
        usage, info = self._store.usage(self.run_id), row.info
        status = self._status() if self._status is not None else row.status
        options = info.get("options") if isinstance(info.get("options"), Mapping) else {}
        optimizer = str(info.get("optimizer") or "")
        done, total = self._running(fresh) if status in _RUNNING else (0, 0)
        note = self.shown.note or str(row.result.get("reason") or "")
        return StudyFacts(
            name=row.name, optimizer=optimizer, metric=str(info.get("metric") or ""), status=status, study_id=self.run_id,
            total=runs.candidates_known(optimizer, options), done_rows=done, total_rows=total,
            expected_calls=int((info.get("estimate") or {}).get("calls") or 0),
            calls=usage.calls + usage.errors, cache_hits=usage.cache_hits, prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens, paid=usage.cost or 0.0, saved=usage.saved_cost, unpriced=usage.unpriced,
            elapsed_s=max((row.ended if row.ended and status not in _RUNNING else time.time()) - row.started, 0.0),
            budget=str(info.get("budget") or ""), options=options, error=row.error or "", note=note,
            adoptable=self.shown.adoptable, resumable=self.shown.resumable,
        )  # fmt: skip

    def _running(self, fresh: Sequence[TrialRow]) -> tuple[int, int]:
        """Return how many examples of the trial that now runs are scored, and of how many."""
        running = [row for row in fresh if row.status == "running"]
        if not running and self._last is not None:
            trials = self._last.trials
            numbers = trials.number[trials.status == "running"]
            running = [self._store.trial(self.run_id, int(number)) for number in numbers[-1:]]
            running = [row for row in running if row is not None and row.status == "running"]
        if not running:
            return 0, 0
        return len(self._store.examples(self.run_id, trial=running[-1].trial)), running[-1].examples


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A plot that was drawn: from which rows, and as the front end takes it."""

    name: str
    version: int
    scored: int
    chart: Chart
    json: str


class Dashboard:
    """One display of a study: what its reader chose, and what is drawn for it."""

    def __init__(self, feed: StudyFeed) -> None:
        from dspex_nb.views.studies import Reading

        self._feed, self._reading, self._still, self._kept = feed, Reading(), False, False
        self._drawn: _Drawn | None = None
        self._status = ""
        self.on_status: Callable[[], object] = lambda: None

    def html(self) -> str:
        """Draw it as it is now."""
        from dspex_nb.views.studies import dashboard_html

        reading = self._reading
        snapshot = self._feed.snapshot(examples=reading.plot == "examples")
        chart = self._charted(snapshot, reading.plot)
        detail = self._feed.detail(reading.trial, reading.call) if reading.trial is not None else None
        if snapshot.facts.status != self._status:
            self._status, before = snapshot.facts.status, self._status
            if before:
                self.on_status()
        return dashboard_html(snapshot, reading, chart, detail, still=self._still)

    def plot(self) -> str:
        """Return the plot last drawn as JSON; empty where there is none."""
        return "" if self._drawn is None or self._still else self._drawn.json

    def still(self) -> str:
        """Draw it for a saved notebook; the first time, while cell and reader wait for it, with one plot alone."""
        from dspex_nb.views.studies import dashboard_still, trials_page

        if not self._kept:
            self._kept = True
            return dashboard_still(self._feed.snapshot(examples=False), {}, plots=("history",))
        snapshot = self._feed.snapshot()
        best = snapshot.trials.number[trials_page(snapshot, sort="best", size=_STILL_OPENED).rows].tolist()
        opened = {number: detail for number in best if (detail := self._feed.detail(number)) is not None}
        return dashboard_still(snapshot, opened)

    def text(self) -> str:
        """Write it as text."""
        from dspex_nb.views.studies import dashboard_text

        return dashboard_text(self._feed.snapshot(examples=False))

    def choose(self, action: str, value: str) -> None:
        """Take what the reader chose; what is no choice of ours is left."""
        from dspex_nb.views.studies import PLOTS

        now = self._reading
        if action == "plot" and value in PLOTS:
            now = replace(now, plot=value)
        elif action == "sort":
            now = replace(now, sort=value, descending=not now.descending if value == now.sort else value != "label", page=0)
        elif action == "filter":
            now = replace(now, query=value[:500], page=0)
        elif action == "page" and value.isdecimal():
            now = replace(now, page=int(value))
        elif action == "trial":
            now = replace(now, trial=int(value) if value.isdecimal() else None, call=None)
        elif action == "call":
            now = replace(now, call=int(value) if value.isdecimal() else None)
        elif action == "still":
            self._still = True
        self._reading = now

    def _charted(self, snapshot: StudySnapshot, name: str) -> Chart:
        """Return the plot, the last one again while nothing new is known; a slow one until there is a fifth more."""
        from dspex_nb.views.charts import chart_json
        from dspex_nb.views.studies import PLOTS

        scored, old = int(snapshot.trials.scored.sum()), self._drawn
        if old is not None and old.name == name:
            fresh = scored < _GROWN * old.scored if PLOTS[name].slow else old.version == self._feed.version
            if fresh:
                return old.chart
        made = PLOTS[name].chart(snapshot)
        self._drawn = _Drawn(name, self._feed.version, scored, made, "" if made.empty else chart_json(name, made))
        return made


class StudyDisplay(ShownOnce):
    """The part of `Study` that shows it. Its plots are plotly figures, each usable alone."""

    record: runs.Study
    _now: Session
    _own_feed: StudyFeed | None = None
    _followers: tuple[threading.Thread, ...] = ()

    def resume(self) -> Any:
        """Go on after a pause, a stop or a kill."""
        raise NotImplementedError

    @property
    def feed(self) -> StudyFeed:
        """Its rows as columns."""
        if self._own_feed is None:
            self._own_feed = StudyFeed(self.record.store, self.record.id, lambda: self.record.status, self._now.cache)
        return self._own_feed

    def plot_history(self) -> Any:
        """Return a figure: each trial's score, the best so far and the start."""
        return self._plotted("history")

    def plot_spending(self) -> Any:
        """Return a figure: the best score so far over dollars, tokens or calls spent by then."""
        return self._plotted("spending")

    def plot_cost(self) -> Any:
        """Return a figure: each candidate's score against what it costs to use."""
        return self._plotted("cost")

    def plot_minibatch(self) -> Any:
        """Return a figure: candidates' scores on parts of the examples against those on all."""
        return self._plotted("minibatch")

    def plot_examples(self) -> Any:
        """Return a figure: each example's score in each trial as a heat map, the hardest examples on top."""
        return self._plotted("examples")

    def plot_choices(self) -> Any:
        """Return a figure: mean scores by instruction and set of demos, with 95% intervals."""
        return self._plotted("choices")

    def plot_importances(self) -> Any:
        """Return a figure: optuna's importance of each choice; where there is none it says why."""
        return self._plotted("importances")

    def plot_parallel(self) -> Any:
        """Return a figure: parallel coordinates of choices, demos, tokens, seconds and score."""
        return self._plotted("parallel")

    def plot_candidates(self) -> Any:
        """Return a figure: the tree of candidates, and the line that leads to the best."""
        return self._plotted("candidates")

    def dashboard(self) -> None:
        """Display the dashboard again: plots, trials, and while it is live the buttons Stop, Pause, Resume, Adopt."""
        self.show()

    def show(self) -> None:
        """Display the dashboard."""
        dashboard = Dashboard(self.feed)
        if not in_notebook():
            show("", dashboard.text())
            return
        from dspex_nb.widgets import LiveView

        acts = {name: getattr(self, name) for name in ("stop", "pause", "adopt")}
        view = LiveView(
            dashboard.html,
            dashboard.text,
            actions={**acts, "resume": lambda: self._resumed(view)},
            choose=dashboard.choose,
            plot=dashboard.plot,
            still=dashboard.still,
        )
        dashboard.on_status = view.keep
        view.show()
        self._follow(view)
        self.mark_shown()

    def _resumed(self, view: Any) -> None:
        self.resume()
        view.go_on()
        self._follow(view)

    def _follow(self, view: Any) -> None:
        """Let the view go on until the study ends."""
        if self.record.status in _RUNNING:
            follower = threading.Thread(target=self._finish, args=(view,), name=f"dspex-view-{self.record.id}", daemon=True)
            self._followers = (*self._followers, follower)
            follower.start()
        else:
            view.finish()

    def _finish(self, view: Any) -> None:
        self.record.wait()
        view.finish()

    def _last_picture(self) -> None:
        """Wait until the views show the end: who runs the notebook may end the kernel right after the cell that waited."""
        for follower in self._followers:
            follower.join(_LAST_PICTURE_S)

    def _plotted(self, name: str) -> Any:
        from dspex_nb.views.charts import draw
        from dspex_nb.views.studies import PLOTS

        return draw(PLOTS[name].chart(self.feed.snapshot(examples=name == "examples")))


def compare_studies(ids: Sequence[str], by: str = "calls") -> Any:
    """Return a figure of several studies' best scores, of whatever optimizers, over what they took.

    Args:
        ids: Ids as `dx.studies()` lists them, or studies.
        by: `"calls"`, `"trials"`, `"tokens"`, `"cost"` or `"minutes"`.

    Raises:
        StudyError: There is no such study, or no such measure.
    """
    from dspex_nb.views.studies import AXES, plot_comparison

    if by not in AXES:
        raise StudyError(f"studies cannot be compared by {by!r}", hint=f"{did_you_mean(by, AXES)}one of: {', '.join(AXES)}")
    now = session()
    now.store.flush()
    known = [row.run_id for row in now.store.runs(of="study")]
    wanted = [str(getattr(one, "id", one)) for one in ([ids] if isinstance(ids, str) else ids)]
    for one in wanted:
        if one not in known:
            raise StudyError(f"there is no study {one!r}", hint=f"{did_you_mean(one, known)}dx.studies() lists them")
    return plot_comparison([StudyFeed(now.store, one).snapshot(examples=False) for one in wanted], by)
