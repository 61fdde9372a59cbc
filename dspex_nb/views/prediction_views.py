"""A prediction: its fields, and a line that says what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.predictions import Prediction, Route
from dspex_nb.views.formats import cost_text, count_text, plural, seconds_text
from dspex_nb.views.markup import VIOLET, Html, chip, details, frame, join, mark, muted, tag
from dspex_nb.views.tables import facts_html, facts_text


@dataclass(frozen=True, slots=True)
class PredictionInfo:
    """What is shown of a prediction.

    Attributes:
        fields: Names and values of the outputs, in order.
        inner: Names and values of a pipeline's other fields, shown on a click.
        engine: `"native"`, `"dspy"` or `"python"`; empty if unknown.
        reason: Why that engine, a full sentence.
        prompt_tokens: Tokens in.
        completion_tokens: Tokens out.
        calls: Requests sent.
        cache_hits: Requests served without one.
        cost: US dollars, None if unknown.
        elapsed_s: Seconds it took.
        cached: The cache tier that served it, None if a request was sent.
    """

    fields: Sequence[tuple[str, Any]]
    inner: Sequence[tuple[str, Any]] = ()
    engine: str = ""
    reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    cache_hits: int = 0
    cost: float | None = None
    elapsed_s: float = 0.0
    cached: str | None = None


def prediction_info(prediction: Prediction) -> PredictionInfo:
    """Return what is shown of `prediction`."""
    # By item and by the private record: an output field may be called `usage`, `route` or `fields`.
    facts, outputs = prediction._facts, prediction._outputs  # noqa: SLF001
    route, usage = facts.route or Route("", "", "", ""), facts.usage
    return PredictionInfo(
        fields=tuple(outputs.items()),
        inner=tuple((k, v) for k, v in facts.fields.items() if k not in outputs),
        engine=route.engine,
        reason=route.reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        calls=usage.calls,
        cache_hits=usage.cache_hits,
        cost=facts.cost,
        elapsed_s=facts.elapsed_s,
        cached=facts.cached,
    )


def prediction_html(prediction: Prediction | PredictionInfo) -> str:
    """Draw a prediction as HTML."""
    info = prediction if isinstance(prediction, PredictionInfo) else prediction_info(prediction)
    inner = details(f"All fields ({len(info.inner)} more)", facts_html(info.inner)) if info.inner else ""
    why = tag("div", muted(info.reason), style="font-size: 12px; margin: 2px 0 0 0;") if info.reason else ""
    return frame(facts_html([(name, value) for name, value in info.fields]), tag("div", *prediction_chips(info)), why, inner)


def _spent(info: PredictionInfo) -> str:
    return "free" if info.cost is None and not info.calls and info.cache_hits else cost_text(info.cost)


def prediction_chips(info: PredictionInfo) -> list[Html]:
    """Return what a prediction took as small labels."""
    chips = [chip(mark("cached"), f" from cache ({info.cached})", color=VIOLET, strong=True)] if info.cached else []
    if info.engine:
        chips.append(chip(f"{info.engine} engine"))
    chips.append(chip(f"{count_text(info.prompt_tokens)} in · {count_text(info.completion_tokens)} out ", muted("tokens")))
    if info.calls + info.cache_hits > 1:
        chips.append(chip(plural(info.calls, "LM call"), f" · {info.cache_hits} cached" if info.cache_hits else ""))
    spent = _spent(info)
    chips.append(chip(muted("cost "), spent) if spent == "unknown" else chip(spent))
    return [*chips, chip(seconds_text(info.elapsed_s))]


def prediction_text(prediction: Prediction | PredictionInfo) -> str:
    """Write a prediction as text."""
    info = prediction if isinstance(prediction, PredictionInfo) else prediction_info(prediction)
    facts = [f"from cache ({info.cached})"] if info.cached else []
    facts += [f"{info.engine} engine"] if info.engine else []
    facts += [f"{info.prompt_tokens:,} in / {info.completion_tokens:,} out tokens"]
    facts += [f"cost {_spent(info)}", seconds_text(info.elapsed_s)]
    return f"{facts_text(info.fields, max_width=400)}\n({' · '.join(facts)})"


def predictions_html(predictions: Sequence[Prediction]) -> str:
    """Draw several predictions one below the other."""
    return join(*(Html(prediction_html(prediction)) for prediction in predictions))
