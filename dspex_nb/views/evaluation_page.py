"""An evaluation as one HTML page that stands alone: no kernel, no network, every row with its trace.

The rows are JSON in the page, which the page's own script writes as text, never as markup. A content security policy lets
nothing else run or load.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from dspex_nb.views.evaluation_views import EvaluationInfo, summary_html
from dspex_nb.views.example_tables import ExampleInfo
from dspex_nb.views.formats import value_text
from dspex_nb.views.markup import Html, clean, escape, tag
from dspex_nb.views.trace_views import CallInfo

_FOLDER = files("dspex_nb.views")


def evaluation_page(info: EvaluationInfo) -> str:
    """Write the page."""
    script, style = (_FOLDER.joinpath(f"evaluation_page.{kind}").read_text("utf-8") for kind in ("js", "css"))
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_digest(script)}'; base-uri 'none';"
        " form-action 'none'"
    )
    body = [
        summary_html(info),
        tag("div", id="rows"),
        tag("noscript", "The rows need JavaScript, which this page carries within itself."),
        Html(f'<script type="application/json" id="data">{_embedded(_data(info))}</script>'),
        Html(f"<script>{script}</script>"),
    ]
    title = f"Evaluation of {info.name}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(map(str, body))}</main></body></html>\n"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _embedded(data: Mapping[str, Any]) -> str:
    """Return JSON that cannot end its element: no `<` is left in it."""
    text = clean(json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=value_text))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data(info: EvaluationInfo) -> dict[str, Any]:
    """Return the rows; a message that several prompts share is written once."""
    messages: dict[str, int] = {}
    rows = [_row(example, messages) for example in info.examples]
    return {
        "metrics": [metric.name for metric in info.metrics],
        "messages": [json.loads(text) for text in messages],
        "rows": rows,
    }


def _row(example: ExampleInfo, messages: dict[str, int]) -> dict[str, Any]:
    return {
        "index": example.index,
        "verdict": "error" if example.error else {True: "right", False: "wrong", None: ""}[example.correct],
        "inputs": _texts(example.inputs),
        "expected": _texts(example.expected),
        "got": _texts(example.got),
        "outputs": _texts(example.outputs or example.got),
        "scores": dict(example.scores),
        "latency": example.latency_s,
        "cached": example.cached,
        "error": example.error,
        "calls": [_call(call, messages) for call in example.calls],
    }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): value_text(value) for name, value in values.items()}


def _call(call: CallInfo, messages: dict[str, int]) -> dict[str, Any]:
    sent = [[str(message.get("role", "?")), _content(message)] for message in call.messages]
    return {
        "model": call.model,
        "step": call.step,
        "messages": [messages.setdefault(json.dumps(message, ensure_ascii=False), len(messages)) for message in sent],
        "answers": list(call.answers),
        "options": json.dumps(dict(call.options), ensure_ascii=False, default=str) if call.options else "",
        "tokens": None if call.cached else [call.prompt_tokens, call.completion_tokens],
        "cached": call.cached,
        "cost": call.cost,
        "seconds": call.elapsed_s,
        "error": call.error,
    }


def _content(message: Mapping[str, Any]) -> str:
    more = {name: value for name, value in message.items() if name not in ("role", "content")}
    content = value_text(message.get("content")) if message.get("content") is not None else ""
    return "\n".join(part for part in (content, json.dumps(more, ensure_ascii=False, default=str) if more else "") if part)
