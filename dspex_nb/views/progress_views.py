"""How far a map or an evaluation is: a bar, a rate, an end in sight."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace

from dspex_nb.events import Event, LMCalled, Progress, RowScored, RunEnded, RunStarted
from dspex_nb.views.charges import charges
from dspex_nb.views.formats import cost_text, count_text, plural, score_text, seconds_text
from dspex_nb.views.markup import BLUE, GREEN, RED, bar, button, chip, error_notice, frame, heading, mark, muted, state_chip, tag

_WINDOW_S = 10.0
_MOMENTS = 4000


@dataclass(frozen=True, slots=True)
class ProgressInfo:
    """A map or evaluation at one moment.

    Attributes:
        title: What runs over what, e.g. `"support"`.
        kind: `"map"`, `"evaluation"`, …, the small word before the title.
        status: `"waiting"`, `"running"`, `"stopping"`, `"done"`, `"failed"`, `"cancelled"` or `"interrupted"`.
        done: Rows finished, those with an error included.
        total: Rows in all, 0 if unknown.
        errors: Rows that ended in an error.
        elapsed_s: Seconds since it began, or that it took.
        rate: Rows a second lately, 0 if unknown.
        eta_s: Seconds left at that rate, None if unknown.
        score: Mean of the first metric so far, None if nothing is scored.
        metric: That metric's name.
        calls: LM requests sent.
        cache_hits: LM requests served from the cache.
        tokens: Prompt and completion tokens.
        cost: US dollars, None if unknown.
        error: What ended it, empty if nothing did.
    """

    title: str = ""
    kind: str = "map"
    status: str = "waiting"
    done: int = 0
    total: int = 0
    errors: int = 0
    elapsed_s: float = 0.0
    rate: float = 0.0
    eta_s: float | None = None
    score: float | None = None
    metric: str = ""
    calls: int = 0
    cache_hits: int = 0
    tokens: int = 0
    cost: float | None = 0.0
    error: str = ""

    @property
    def live(self) -> bool:
        """Whether it is still going on."""
        return self.status in {"waiting", "running", "stopping"}


class ProgressState:
    """Takes the events of a map or an evaluation and gives snapshots, from any threads.

    Args:
        run_id: The run to follow; without it, the run of the first event seen.
        title: The heading, if `RunStarted` does not come.
        total: Rows in all, if `RunStarted` does not come.
    """

    def __init__(self, run_id: str = "", title: str = "", total: int = 0) -> None:
        self._lock = threading.Lock()
        self._run_id = run_id
        self._started_at: float | None = None
        self._moments: deque[tuple[float, int]] = deque(maxlen=_MOMENTS)
        self._scored, self._sum = 0, 0.0
        self._info = ProgressInfo(title=title, total=total)

    def apply(self, event: Event) -> None:
        """Take an event; those of other runs and of unknown kinds change nothing."""
        with self._lock:
            self._run_id = self._run_id or event.run_id
            if event.run_id != self._run_id:
                return
            if self._info.status == "waiting":
                self._info = replace(self._info, status="running")
            self._started_at = self._started_at or event.at
            if isinstance(event, RunStarted):
                self._begin(event)
            elif isinstance(event, Progress):
                self._moments.append((event.at, event.done))
                # Events of parallel rows may overtake each other; a bar never goes back.
                done, errors = max(event.done, self._info.done), max(event.errors, self._info.errors)
                self._info = replace(self._info, done=done, errors=errors, total=max(event.total, self._info.total))
            elif isinstance(event, RowScored):
                self._score(event)
            elif isinstance(event, LMCalled):
                self._called(event)
            elif isinstance(event, RunEnded):
                elapsed = event.elapsed_s or event.at - self._started_at
                self._info = replace(self._info, status=event.status, elapsed_s=elapsed, error=event.error or "")

    def set_status(self, status: str) -> None:
        """Show a state that no event tells of, such as `"stopping"` after the button."""
        with self._lock:
            if self._info.live:
                self._info = replace(self._info, status=status)

    def _begin(self, event: RunStarted) -> None:
        self._started_at = event.at
        total = event.total or self._info.total
        self._info = replace(self._info, title=event.name or self._info.title, kind=event.of, total=total)

    def _score(self, event: RowScored) -> None:
        if not event.scores:
            return
        metric = self._info.metric or next(iter(event.scores))
        if metric in event.scores:
            self._scored, self._sum = self._scored + 1, self._sum + event.scores[metric]
            self._info = replace(self._info, metric=metric, score=self._sum / self._scored)

    def _called(self, event: LMCalled) -> None:
        info = self._info
        tokens = info.tokens + event.prompt_tokens + event.completion_tokens
        self._info = replace(info, tokens=tokens, **charges(info, event))

    def snapshot(self, now: float | None = None) -> ProgressInfo:
        """Return how far it is at `now` (seconds since the epoch)."""
        at = time.time() if now is None else now
        with self._lock:
            info, moments, started = self._info, tuple(self._moments), self._started_at
        if not info.live or started is None:
            rate = info.done / info.elapsed_s if info.elapsed_s else 0.0
            return replace(info, rate=rate, eta_s=None)
        elapsed = max(at - started, 0.0)
        rate = _rate(moments, started, at, info.done)
        left = info.total - info.done
        eta = left / rate if rate > 0 and info.total else None
        return replace(info, elapsed_s=elapsed, rate=rate, eta_s=eta)


def _rate(moments: tuple[tuple[float, int], ...], started: float, now: float, done: int) -> float:
    """Return rows a second over the last ten seconds: an early slow row (a model that loads) soon no longer counts."""
    since, had = started, 0
    for at, count in moments:
        if at < now - _WINDOW_S:
            since, had = at, count
    span = now - since
    return (done - had) / span if span > 0 and done > had else 0.0


def progress_html(state: ProgressState | ProgressInfo, *, stop: bool = True) -> str:
    """Draw progress as HTML; Stop is the action `cancel`."""
    info = state.snapshot() if isinstance(state, ProgressState) else state
    stopper = button("cancel", "Stop", danger=True) if stop and info.status == "running" else ""
    share = info.done / info.total if info.total else float(info.status == "done")
    failed = info.errors / info.total if info.total else 0.0
    color = GREEN if info.status == "done" else BLUE
    line = tag("div", *_chips(info))
    head = heading(info.title or info.kind, state_chip(info.status), stopper, kind=info.kind if info.title else "")
    return frame(head, bar(share, color=color, failed=failed), line, error_notice(info.error) if info.error else "")


def _chips(info: ProgressInfo) -> list[str]:
    chips = [chip(tag("strong", count_text(info.done), f" / {count_text(info.total)}" if info.total else ""), muted(" rows"))]
    if info.errors:
        chips.append(chip(mark("failed"), " ", plural(info.errors, "error"), color=RED))
    if info.score is not None:
        chips.append(chip(muted(f"{info.metric} {'so far ' if info.live else ''}"), score_text(info.score)))
    if info.rate:
        chips.append(chip(f"{info.rate:.1f}" if info.rate < 100 else count_text(info.rate), muted(" rows/s")))  # noqa: PLR2004
    if info.live and info.eta_s is not None and info.done < info.total:
        chips.append(chip(muted("about "), seconds_text(info.eta_s), muted(" left")))
    chips.append(chip(seconds_text(info.elapsed_s)))
    if info.calls or info.cache_hits:
        chips.append(chip(plural(info.calls, "LM call"), f" · {info.cache_hits:,} from cache" if info.cache_hits else ""))
        chips.append(chip(muted("cost "), cost_text(info.cost)))
    return list(chips)


def progress_text(state: ProgressState | ProgressInfo) -> str:
    """Write progress as one line of text."""
    info = state.snapshot() if isinstance(state, ProgressState) else state
    share = info.done / info.total if info.total else 0.0
    full = round(share * 24)
    drawn = "█" * full + "░" * (24 - full)
    facts = [f"{info.done:,}/{info.total:,} rows" if info.total else f"{info.done:,} rows", plural(info.errors, "error")]
    facts += [f"{info.metric} {score_text(info.score)}"] if info.score is not None else []
    facts += [f"{info.rate:.1f} rows/s"] if info.rate else []
    facts += [f"about {seconds_text(info.eta_s)} left"] if info.live and info.eta_s is not None else []
    line = f"{info.kind} {info.title}: {info.status}  {drawn}  {' · '.join([*facts, seconds_text(info.elapsed_s)])}"
    return f"{line}\n{info.error}" if info.error else line
