"""Anthropic's messages API.

Structured output goes the documented way, `output_config.format` (JSON schema, no beta header), where the catalog says the model
has it and the schema is closed; for older models, open mappings and "any JSON" the model is made to call one tool whose input
is the answer. Reasoning effort is `output_config.effort` with adaptive thinking where the model has that, else a thinking budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dspex_nb.clients import catalog
from dspex_nb.clients.dialects import (
    RAW,
    Reader,
    Written,
    arguments_of,
    chunk,
    no_form,
    parts_of,
    refuse_unknown,
    schema_of,
    stop_list,
    tool_call,
    usage_of,
)
from dspex_nb.clients.media import Media, media_of
from dspex_nb.clients.schemas import closed, is_open

VERSION = "2023-06-01"
FILES_BETA = "files-api-2025-04-14"
JSON_TOOL = "json_answer"
MOST_TOKENS = 16_384
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_768}
"""Thinking tokens an effort stands for on models without adaptive thinking; plain DSPy sends the same."""

_API = "Anthropic's messages API"
_PASSED = frozenset(
    {"cache_control", "container", "context_management", "inference_geo", "mcp_servers", "metadata", "output_config",
     "service_tier", "speed", "temperature", "thinking", "top_k", "top_p"}
)  # fmt: skip
_OURS = frozenset(
    {"messages", "max_tokens", "max_completion_tokens", "stop", "user", "tools", "tool_choice", "parallel_tool_calls",
     "reasoning_effort", "response_format"}
)  # fmt: skip
_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "max_tokens": "length",
    "model_context_window_exceeded": "length", "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip
_STATUS_OF = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip
_OFF = {"none", "disable"}


class MessagesDialect:
    """System messages become `system`, tool results a user's blocks, and neighbours of one role one message."""

    name, form = _API, "a message"
    native_n = False

    def write(self, model: str, asked: Mapping[str, Any], *, streamed: bool) -> Written:
        """Write a chat body as a message's."""
        asked = dict(asked)
        extra = asked.pop("extra_body", {})
        refuse_unknown(_API, {name: asked[name] for name in asked if name not in _PASSED | _OURS}, _PASSED | _OURS)
        system, messages = _conversation(asked["messages"])
        length = asked.get("max_tokens") or asked.get("max_completion_tokens") or _default_length(model)
        body: dict[str, Any] = {"model": model, "max_tokens": length, "messages": messages}
        body |= {"system": system} if system else {}
        body |= {name: value for name, value in asked.items() if name in _PASSED}
        if asked.get("stop"):
            body["stop_sequences"] = stop_list(asked["stop"])
        if asked.get("user"):
            body["metadata"] = {"user_id": asked["user"], **body.get("metadata", {})}
        _set_tools(body, asked)
        _set_effort(body, model, asked.get("reasoning_effort"))
        _set_format(body, model, asked.get("response_format"))
        headers = {"anthropic-version": VERSION}
        if any(block.get("source", {}).get("type") == "file" for message in messages for block in message["content"]):
            headers["anthropic-beta"] = FILES_BETA
        return Written("/messages", {**body, **extra, **({"stream": True} if streamed else {})}, headers)

    def auth(self, key: str) -> Mapping[str, str]:
        """Return the key in Anthropic's own header."""
        return {"x-api-key": key}

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the content blocks as one choice."""
        text, thought = "", ""
        calls: list[dict[str, Any]] = []
        for block in data["content"]:
            kind = block["type"]
            if kind == "text":
                text += block["text"]
            elif kind == "thinking":
                thought += block["thinking"]
            elif kind == "tool_use" and block["name"] == JSON_TOOL:
                text += json.dumps(block["input"], ensure_ascii=False)
            elif kind == "tool_use":
                calls.append(tool_call(block["id"], block["name"], block["input"]))
        kept = [block for block in data["content"] if block["type"] in {"thinking", "redacted_thinking"}]
        message: dict[str, Any] = {"role": "assistant", "content": text}
        message |= {"reasoning_content": thought} if thought else {}
        message |= {"thinking_blocks": kept} if kept else {}
        message |= {"tool_calls": calls} if calls else {}
        finish = _finish(data.get("stop_reason"), called=bool(calls))
        return {
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": _usage(data["usage"]),
            RAW: data,
        }

    def failure(self, data: Mapping[str, Any]) -> int | None:
        """Say which status an error inside a 200 stands for."""
        if data.get("type") != "error":
            return None
        error = data.get("error")
        return _STATUS_OF.get(str(error.get("type")) if isinstance(error, Mapping) else "", 500)

    def refused(self, status: int, text: str) -> int:
        """Anthropic's statuses mean what HTTP says."""
        del text
        return status

    def reader(self) -> Reader:
        """Return the reader of one stream."""
        return _MessageReader()


class _MessageReader:
    def __init__(self) -> None:
        self.done = self.over = False
        self._calls: dict[int, int] = {}  # block -> tool call
        self._usage: dict[str, Any] = {}
        self._json_block = -1

    def read(self, event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        kind = event.get("type")
        if kind == "message_start":
            self._usage |= event["message"].get("usage") or {}
        elif kind == "content_block_start":
            yield from self._started(event["index"], event["content_block"])
        elif kind == "content_block_delta":
            yield from self._grown(event["index"], event["delta"])
        elif kind == "message_delta":
            self._usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
            finish = event["delta"].get("stop_reason")
            self.done = self.done or bool(finish)
            yield chunk({}, _finish(finish, called=bool(self._calls)) if finish else None, _usage(self._usage))
        elif kind == "message_stop":
            self.done = self.over = True

    def _started(self, index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if block["type"] == "text" and block.get("text"):
            yield chunk({"content": block["text"]})
        elif block["type"] == "tool_use" and block["name"] == JSON_TOOL:
            self._json_block = index
        elif block["type"] == "tool_use":
            number = self._calls[index] = len(self._calls)
            yield chunk({"tool_calls": [{"index": number, **tool_call(block["id"], block["name"], "")}]})

    def _grown(self, index: int, delta: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        kind = delta["type"]
        if kind == "text_delta":
            yield chunk({"content": delta["text"]})
        elif kind == "thinking_delta":
            yield chunk({"reasoning_content": delta["thinking"]})
        elif kind == "input_json_delta" and index == self._json_block:
            yield chunk({"content": delta["partial_json"]})
        elif kind == "input_json_delta" and index in self._calls:
            yield chunk({"tool_calls": [{"index": self._calls[index], "function": {"arguments": delta["partial_json"]}}]})


# The conversation


def _conversation(given: Sequence[Mapping[str, Any]]) -> tuple[Any, list[dict[str, Any]]]:
    system: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    for message in given:
        if message["role"] in {"system", "developer"}:
            system += [_block(part) for part in parts_of(message.get("content"))]
            continue
        role = "assistant" if message["role"] == "assistant" else "user"
        blocks = _blocks(message)
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": role, "content": blocks})
    plain = len(system) == 1 and set(system[0]) == {"type", "text"}
    return (system[0]["text"] if plain else system), messages


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks = [_block(part) for part in parts_of(message.get("content"))]
    if message["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": blocks}]
    calls = [
        {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": arguments_of(call)}
        for call in message.get("tool_calls") or ()
    ]
    return [*(dict(block) for block in message.get("thinking_blocks") or ()), *blocks, *calls]


def _block(part: Mapping[str, Any]) -> dict[str, Any]:
    marked = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
    if part.get("type") == "text":
        return {"type": "text", "text": part["text"], **marked}
    media = media_of(part)
    return {**_media_block(media), **marked} if media else dict(part)  # what has Anthropic's own form already stays as it is


def _media_block(media: Media) -> dict[str, Any]:
    if media.kind == "audio" or media.mime.startswith(("audio/", "video/")):
        raise no_form(_API, "audio", "ask a model that hears, e.g. of openai/ or gemini/")
    kind = "image" if media.kind == "image" or media.mime.startswith("image/") else "document"
    if media.file_id:
        return {"type": kind, "source": {"type": "file", "file_id": media.file_id}}
    if media.url:
        return {"type": kind, "source": {"type": "url", "url": media.url}}
    titled = {"title": media.filename} if kind == "document" and media.filename else {}
    if media.mime == "text/plain":
        import base64

        text = base64.b64decode(media.data).decode("utf-8", "replace")
        return {"type": kind, "source": {"type": "text", "media_type": media.mime, "data": text}, **titled}
    if kind == "document" and media.mime not in {"application/pdf", ""}:
        raise no_form(
            _API, f"file of type {media.mime!r}", "give a PDF, plain text or an image, or put the file's text in an input"
        )
    mime = media.mime or ("image/png" if kind == "image" else "application/pdf")
    return {"type": kind, "source": {"type": "base64", "media_type": mime, "data": media.data}, **titled}


# The options


def _default_length(model: str) -> int:
    known = catalog.facts("anthropic", model).get("max_output_tokens")
    return min(MOST_TOKENS, int(known)) if known else MOST_TOKENS


def _set_tools(body: dict[str, Any], asked: Mapping[str, Any]) -> None:
    if asked.get("tools"):
        body["tools"] = [_tool(tool) for tool in asked["tools"]]
    wanted, parallel = asked.get("tool_choice"), asked.get("parallel_tool_calls")
    if (wanted is None and parallel is None) or not asked.get("tools"):
        return
    if isinstance(wanted, Mapping):
        choice = {"type": "tool", "name": wanted["function"]["name"]} if "function" in wanted else dict(wanted)
    else:
        choice = {"type": {"required": "any", "none": "none"}.get(str(wanted), "auto")}
    if parallel is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    body["tool_choice"] = choice


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if "function" not in tool:
        return dict(tool)  # a server tool in Anthropic's own form
    function = tool["function"]
    described = {"description": function["description"]} if function.get("description") else {}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    strict = {"strict": True} if function.get("strict") else {}
    return {"name": function["name"], **described, "input_schema": schema, **strict}


def _set_effort(body: dict[str, Any], model: str, effort: Any) -> None:
    if effort is None:
        return
    if effort in _OFF:
        body.setdefault("thinking", {"type": "disabled"})
    elif catalog.facts("anthropic", model).get("supports_adaptive_thinking"):
        body.setdefault("thinking", {"type": "adaptive", "display": "summarized"})
        body["output_config"] = {"effort": "low" if effort == "minimal" else effort, **body.get("output_config", {})}
    elif effort in BUDGETS:
        body.setdefault("thinking", {"type": "enabled", "budget_tokens": BUDGETS[effort]})
        body["max_tokens"] += body["thinking"].get("budget_tokens", 0)  # the limit counts the thinking in
    else:
        raise no_form(_API, f"reasoning_effort={effort!r}", f"give one of {', '.join(BUDGETS)} or none")


def _set_format(body: dict[str, Any], model: str, wanted: Any) -> None:
    schema = schema_of(wanted)
    if schema is None:
        return
    native = catalog.facts("anthropic", model).get("supports_native_structured_output")
    if schema and native and not is_open(schema):
        form = {"type": "json_schema", "schema": closed(schema)}
        body["output_config"] = {"format": form, **body.get("output_config", {})}
        return
    if "tools" in body:
        raise no_form(
            _API, f"response_format beside tools for {model}", "leave one of them out, or use a model with structured output"
        )
    tool = {"name": JSON_TOOL, "description": "Give the answer.", "input_schema": dict(schema) or {"type": "object"}}
    body |= {"tools": [tool], "tool_choice": {"type": "tool", "name": JSON_TOOL}}


def _finish(reason: Any, *, called: bool) -> str:
    if reason == "tool_use" and not called:
        return "stop"  # only the tool that carries a JSON answer
    return _FINISH.get(str(reason), "stop")


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    prompt = (usage.get("input_tokens") or 0) + cached + written
    used = usage_of(prompt, usage.get("output_tokens") or 0, cached=cached, written=written, reasoning=thought)
    # What is kept for an hour costs more than what is kept for five minutes.
    hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens")
    used["prompt_tokens_details"]["cache_creation_1h_tokens"] = hour or 0
    return used
