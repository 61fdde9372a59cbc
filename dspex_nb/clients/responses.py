"""OpenAI's responses API: `model_type="responses"`, as in DSPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dspex_nb.clients.dialects import (
    RAW,
    Reader,
    Written,
    chunk,
    no_form,
    parts_of,
    refuse_unknown,
    text_of,
    tool_call,
    usage_of,
)
from dspex_nb.clients.media import media_of
from dspex_nb.clients.openai import status_in

_API = "OpenAI's responses API"
_PASSED = frozenset(
    {"background", "context_management", "conversation", "include", "instructions", "max_output_tokens", "max_tool_calls",
     "metadata", "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention",
     "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs",
     "top_p", "truncation", "user"}
)  # fmt: skip
_OURS = frozenset(
    {"messages", "max_tokens", "max_completion_tokens", "reasoning_effort", "response_format", "verbosity", "logprobs"}
)
_STATUS_OF = {"rate_limit_exceeded": 429, "server_error": 500, "invalid_prompt": 400, "context_length_exceeded": 400}


class ResponsesDialect:
    """Messages become `input` items; the answer's `output` items become one choice."""

    name, form = _API, "a response"
    native_n = False

    def write(self, model: str, asked: Mapping[str, Any], *, streamed: bool) -> Written:
        """Write a chat body as a response's."""
        asked = dict(asked)
        extra = asked.pop("extra_body", {})
        refuse_unknown(_API, {name: asked[name] for name in asked if name not in _PASSED | _OURS}, _PASSED | _OURS)
        body: dict[str, Any] = {"model": model, "input": [item for message in asked["messages"] for item in _items(message)]}
        body |= {name: value for name, value in asked.items() if name in _PASSED}
        length = asked.get("max_tokens") or asked.get("max_completion_tokens")
        if length is not None:
            body["max_output_tokens"] = length
        if asked.get("reasoning_effort") is not None:
            body.setdefault("reasoning", {"effort": asked["reasoning_effort"], "summary": "auto"})
        text = {**_format(asked.get("response_format")), **({"verbosity": asked["verbosity"]} if "verbosity" in asked else {})}
        if text:
            body["text"] = {**text, **body.get("text", {})}
        if asked.get("logprobs"):
            body["include"] = [*body.get("include", ()), "message.output_text.logprobs"]
        if "tools" in body:
            body["tools"] = [_tool(tool) for tool in body["tools"]]
        choice = body.get("tool_choice")
        if isinstance(choice, Mapping) and "function" in choice:
            body["tool_choice"] = {"type": "function", "name": choice["function"]["name"]}
        return Written("/responses", {**body, **extra, **({"stream": True} if streamed else {})})

    def auth(self, key: str) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the output items as one choice."""
        texts, refusals, thoughts = [], [], []
        calls: list[dict[str, Any]] = []
        for item in data["output"]:
            kind = item.get("type")
            if kind == "message":
                texts += [part["text"] for part in item["content"] if part.get("type") == "output_text"]
                refusals += [part["refusal"] for part in item["content"] if part.get("type") == "refusal"]
            elif kind == "reasoning":
                thoughts += [part["text"] for part in item.get("summary") or item.get("content") or ()]
            elif kind == "function_call":
                calls.append(tool_call(item.get("call_id") or item.get("id"), item["name"], item.get("arguments")))
        message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
        message |= {"refusal": "".join(refusals)} if refusals else {}
        message |= {"reasoning_content": "\n\n".join(thoughts)} if thoughts else {}
        message |= {"tool_calls": calls} if calls else {}
        finish = _finish(data, called=bool(calls), refused=bool(refusals))
        return {
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": _usage(data.get("usage")),
            RAW: data,
        }

    def failure(self, data: Mapping[str, Any]) -> int | None:
        """Say which status a failed response or an error event stands for."""
        if data.get("type") == "error":
            return _STATUS_OF.get(str(data.get("code")), 500)
        response = data.get("response") if data.get("type") == "response.failed" else data
        if not isinstance(response, Mapping):
            return None
        error = response.get("error")
        if not error and response.get("status") != "failed":
            return None
        code = error.get("code") if isinstance(error, Mapping) else None
        return _STATUS_OF.get(str(code)) or status_in(code)

    def refused(self, status: int, text: str) -> int:
        """OpenAI's statuses mean what HTTP says."""
        del text
        return status

    def reader(self) -> Reader:
        """Return the reader of one stream."""
        return _ResponseReader()


class _ResponseReader:
    def __init__(self) -> None:
        self.done = self.over = False
        self._calls: dict[int, int] = {}  # output item -> tool call
        self._refused = False

    def read(self, event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        kind = str(event.get("type"))
        if kind in {"response.output_text.delta", "response.refusal.delta"}:
            self._refused = self._refused or kind == "response.refusal.delta"
            yield chunk({"content": event["delta"]})
        elif kind in {"response.reasoning_summary_text.delta", "response.reasoning_text.delta"}:
            yield chunk({"reasoning_content": event["delta"]})
        elif kind == "response.output_item.added" and event["item"].get("type") == "function_call":
            item = event["item"]
            index = self._calls.setdefault(event.get("output_index", 0), len(self._calls))
            call_id = item.get("call_id") or item.get("id")
            yield chunk({"tool_calls": [{"index": index, **tool_call(call_id, item["name"], item.get("arguments") or "")}]})
        elif kind == "response.function_call_arguments.delta":
            index = self._calls.get(event.get("output_index", 0), 0)
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": event["delta"]}}]})
        elif kind in {"response.completed", "response.incomplete"}:
            self.done = self.over = True
            response = event["response"]
            finish = _finish(response, called=bool(self._calls), refused=self._refused)
            yield chunk({}, finish, _usage(response.get("usage")))


def _items(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    role, content = message["role"], message.get("content")
    if role == "tool":
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": text_of(content)}
        return
    parts = [_part(part, role) for part in parts_of(content)]
    if parts:
        yield {"role": role, "content": parts}
    for call in message.get("tool_calls") or ():
        function = call["function"]
        yield {
            "type": "function_call", "call_id": call.get("id"), "name": function["name"],
            "arguments": function.get("arguments") or "{}",
        }  # fmt: skip


def _part(part: Mapping[str, Any], role: str) -> dict[str, Any]:
    if part.get("type") == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    media = media_of(part)
    if media is None:
        return dict(part)  # already in this API's form; what is not, the server names
    if media.kind == "image":
        image = part["image_url"] if isinstance(part["image_url"], Mapping) else {"url": part["image_url"]}
        detail = {"detail": image["detail"]} if image.get("detail") else {}
        return {"type": "input_image", "image_url": image["url"], **detail}
    if media.kind == "file":
        if media.file_id:
            return {"type": "input_file", "file_id": media.file_id}
        if media.url:
            return {"type": "input_file", "file_url": media.url}
        data = f"data:{media.mime or 'application/octet-stream'};base64,{media.data}"
        return {"type": "input_file", "filename": media.filename or "file", "file_data": data}
    raise no_form(_API, "audio", "leave model_type='responses' out: chat completions take audio")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", **tool["function"]} if "function" in tool else dict(tool)


def _format(wanted: Any) -> dict[str, Any]:
    if not isinstance(wanted, Mapping):
        return {}
    if wanted.get("type") == "json_schema":
        return {"format": {"type": "json_schema", **wanted["json_schema"]}}
    return {"format": dict(wanted)}


def _finish(response: Mapping[str, Any], *, called: bool, refused: bool) -> str:
    why = (response.get("incomplete_details") or {}).get("reason")
    if response.get("status") == "incomplete" or why:
        return "content_filter" if why == "content_filter" else "length"
    if refused:
        return "content_filter"
    return "tool_calls" if called else "stop"


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    usage = usage or {}
    read, made = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
    return usage_of(
        usage.get("input_tokens") or 0,
        usage.get("output_tokens") or 0,
        cached=read.get("cached_tokens") or 0,
        reasoning=made.get("reasoning_tokens") or 0,
    )
