"""One example's trace: each prompt exactly as it was sent, the raw answer, what was read from it, and what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dspex_nb.views.formats import cost_text, cut, one_line, plural, score_text, seconds_text, value_text
from dspex_nb.views.markup import RED, Html, chip, details, join, mark, muted, pre, tag
from dspex_nb.views.tables import facts_html

NO_CALLS = (
    "No model was asked on this example's behalf: the program needed none, or it asked in a run of its own (a plain function that"
    " calls dx.Predict does; evaluate the predictor or a pipeline to see its calls)."
)


class CallInfo(Protocol):
    """A model call, as `runs.traces.TracedCall` is one."""

    @property
    def model(self) -> str:
        """The model string."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The prompt, in OpenAI's form."""

    @property
    def answers(self) -> Sequence[str]:
        """The raw text of each candidate."""

    @property
    def step(self) -> str:
        """Who asked."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What was sent beside the messages."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens in, 0 where the cache answered."""

    @property
    def completion_tokens(self) -> int:
        """Tokens out, 0 where the cache answered."""

    @property
    def cached(self) -> str | None:
        """The cache tier that answered."""

    @property
    def cost(self) -> float | None:
        """US dollars, None if unknown."""

    @property
    def elapsed_s(self) -> float:
        """Seconds it took."""

    @property
    def error(self) -> str:
        """What failed, empty if nothing did."""


class TracedExample(Protocol):
    """An example with its calls, as `ExampleInfo` is one."""

    @property
    def index(self) -> int:
        """Its place in the data."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What the program was given."""

    @property
    def expected(self) -> Mapping[str, Any]:
        """What the data says."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """All that was answered, as it was read."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Each metric's value."""

    @property
    def latency_s(self) -> float | None:
        """Seconds it took."""

    @property
    def error(self) -> str:
        """What went wrong, empty if nothing did."""

    @property
    def calls(self) -> Sequence[CallInfo]:
        """Its model calls."""


@dataclass(frozen=True, slots=True)
class Brief:
    """How much of a trace is drawn where it is stored in a notebook.

    Attributes:
        limit: Characters shown of each message and answer.
        seen: Texts that an earlier trace of the same view shows; they are not repeated.
    """

    limit: int
    seen: set[str] = field(default_factory=set)


def trace_html(example: TracedExample, brief: Brief | None = None) -> Html:
    """Draw an example's trace, all of it or as `brief` says."""
    parts = [_call(number, call, len(example.calls), brief) for number, call in enumerate(example.calls, 1)]
    if not parts:
        parts = [tag("div", muted(NO_CALLS), style="margin: 4px 0; white-space: normal;")]
    facts: list[tuple[str, object]] = []
    if brief is None:  # else they are in the row above
        facts += [*_named("input", example.inputs), *_named("expected", example.expected)]
    facts += _named("read", example.outputs) if example.outputs else [("read", muted("nothing: see the error"))]
    facts += [(name, score_text(value)) for name, value in example.scores.items()]
    if example.error:
        facts.append(
            ("error", tag("span", example.error, style=f"color: {RED}; white-space: pre-wrap; overflow-wrap: anywhere;"))
        )
    if brief is not None:
        facts = [(name, value if isinstance(value, Html) else cut(value_text(value), brief.limit)) for name, value in facts]
    return join(*parts, facts_html(facts))


def _named(kind: str, values: Mapping[str, Any]) -> list[tuple[str, object]]:
    return [(f"{kind} {name}", value) for name, value in values.items()]


def _call(number: int, call: CallInfo, of: int, brief: Brief | None) -> Html:
    title = f"Call {number} of {of}" if of > 1 else "The call"
    head = tag(
        "div",
        tag("strong", title, style="font-weight: 600; margin-right: 8px;"),
        chip(call.step) if call.step else "",
        chip(call.model),
        *_took(call),
        style="margin: 6px 0 2px 0;",
    )
    last = len(call.messages) - 1
    sent = [_message(message, brief, opened=at == last) for at, message in enumerate(call.messages)]
    options = {name: value for name, value in call.options.items() if name != "messages"}
    if options:
        sent.append(_part("options", json.dumps(options, ensure_ascii=False, default=str, indent=1), brief, opened=False))
    names = ["raw answer"] if len(call.answers) == 1 else [f"raw answer {at}" for at in range(1, len(call.answers) + 1)]
    said = [_part(name, text, brief, opened=True) for name, text in zip(names, call.answers, strict=True)]
    failed = [tag("div", mark("failed"), " ", call.error, style=f"color: {RED};")] if call.error else []
    return join(head, *sent, *said, *failed)


def _took(call: CallInfo) -> list[Html]:
    if call.cached:
        return [chip(mark("cached"), f" from cache ({call.cached}): no tokens, free"), chip(seconds_text(call.elapsed_s))]
    tokens = f"{call.prompt_tokens:,} + {plural(call.completion_tokens, 'token')}"
    return [chip(tokens), chip(muted("cost "), cost_text(call.cost)), chip(seconds_text(call.elapsed_s))]


def _message(message: Mapping[str, Any], brief: Brief | None, *, opened: bool) -> Html:
    content = message.get("content")
    more = {name: value for name, value in message.items() if name not in ("role", "content")}
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str, indent=1)
    if more:
        text = "\n".join(part for part in (text if content else "", json.dumps(more, ensure_ascii=False, default=str)) if part)
    return _part(str(message.get("role", "?")), text, brief, opened=opened)


def _part(name: str, text: str, brief: Brief | None, *, opened: bool) -> Html:
    if brief is not None and not opened:
        if text in brief.seen:
            return tag("div", muted(f"{name}: as above"))
        brief.seen.add(text)
    limit = len(text) if brief is None else brief.limit
    shown = text if len(text) <= limit else f"{cut(text, limit)}\n({len(text):,} characters in all: .trace(…))"
    summary = join(name, " ", muted(one_line(text, 90))) if not opened else name
    return details(summary, pre(shown, max_height_px=320), opened=opened)


def trace_text(example: TracedExample) -> str:
    """Write an example's trace as text."""
    lines = [f"example {example.index}"]
    for number, call in enumerate(example.calls, 1):
        took = f"from cache ({call.cached})" if call.cached else f"{call.prompt_tokens} + {call.completion_tokens} tokens"
        lines.append(f"── call {number}: {call.model}{f' for {call.step}' if call.step else ''}, {took}")
        lines += [f"[{message.get('role')}]\n{value_text(message.get('content'))}" for message in call.messages]
        lines += [f"[raw answer]\n{text}" for text in call.answers]
        lines += [f"[error] {call.error}"] if call.error else []
    if not example.calls:
        lines.append(NO_CALLS)
    lines.append("── read")
    lines += [f"{name}: {value_text(value)}" for name, value in example.outputs.items()] or ["nothing"]
    lines += [f"expected {name}: {value_text(value)}" for name, value in example.expected.items()]
    lines += [f"{name} = {score_text(value)}" for name, value in example.scores.items()]
    return "\n".join([*lines, f"error: {example.error}"] if example.error else lines)
