"""Google's generateContent (the Gemini API); the key travels in a header."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    text_of,
    tool_call,
    usage_of,
)
from dspex_nb.clients.media import Media, media_of

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_768}
"""Thinking tokens an effort stands for before Gemini 3, which takes levels; plain DSPy sends the same."""
UNSIGNED = "skip_thought_signature_validator"
"""What Google documents as the signature of a tool call that its model did not make; Gemini 3 refuses calls without any."""

_API = "Google's generateContent"
_CONFIG = {
    "temperature": "temperature", "top_p": "topP", "top_k": "topK", "seed": "seed", "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens", "n": "candidateCount", "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty", "logprobs": "responseLogprobs", "top_logprobs": "logprobs",
    "thinkingConfig": "thinkingConfig", "responseModalities": "responseModalities", "mediaResolution": "mediaResolution",
    "speechConfig": "speechConfig",
}  # fmt: skip
_PASSED = {
    "safety_settings": "safetySettings", "safetySettings": "safetySettings", "cached_content": "cachedContent",
    "cachedContent": "cachedContent", "labels": "labels", "service_tier": "serviceTier", "store": "store",
}  # fmt: skip
_OURS = frozenset({"messages", "stop", "tools", "tool_choice", "reasoning_effort", "response_format"})
_KNOWN = frozenset({*_CONFIG, *_PASSED, *_OURS})
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
_FILTERED = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT",
     "IMAGE_RECITATION"}
)  # fmt: skip


class GenerateContentDialect:
    """System messages become `systemInstruction`, the assistant `model`, and neighbours of one role one content."""

    name, form = _API, "a generateContent answer"
    native_n = True

    def write(self, model: str, asked: Mapping[str, Any], *, streamed: bool) -> Written:
        """Write a chat body as a generateContent request."""
        asked = {name: value for name, value in asked.items() if (name, value) != ("parallel_tool_calls", True)}
        extra = asked.pop("extra_body", {})
        refuse_unknown(_API, {name: asked[name] for name in asked if name not in _KNOWN}, _KNOWN)
        if asked.get("parallel_tool_calls") is False:
            raise no_form(_API, "'parallel_tool_calls': False", "leave it out: the model may call several tools at once")
        system, contents = _conversation(model, asked["messages"])
        body: dict[str, Any] = {"contents": contents}
        body |= {"systemInstruction": {"parts": system}} if system else {}
        body |= {_PASSED[name]: value for name, value in asked.items() if name in _PASSED}
        config = {_CONFIG[name]: value for name, value in asked.items() if name in _CONFIG}
        if asked.get("stop"):
            config["stopSequences"] = stop_list(asked["stop"])
        config |= _format(asked.get("response_format"))
        if "thinkingConfig" not in config:
            config |= _thinking(model, asked.get("reasoning_effort"))
        if config:
            body["generationConfig"] = config
        if asked.get("tools"):
            body["tools"] = _tools(asked["tools"])
            body |= _tool_config(asked.get("tool_choice"))
        how = "streamGenerateContent?alt=sse" if streamed else "generateContent"
        return Written(f"/models/{model.removeprefix('models/')}:{how}", {**body, **extra})

    def auth(self, key: str) -> Mapping[str, str]:
        """Return the key in Google's own header."""
        return {"x-goog-api-key": key}

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the candidates as choices; a prompt that was blocked is a refusal."""
        if not data.get("candidates"):
            reason = data["promptFeedback"]["blockReason"]
            message = {"role": "assistant", "content": "", "refusal": f"Google refused the prompt: {reason}"}
            choices = [{"index": 0, "message": message, "finish_reason": "content_filter"}]
        else:
            choices = [_choice(index, candidate) for index, candidate in enumerate(data["candidates"])]
        return {"choices": choices, "usage": _usage(data.get("usageMetadata")), RAW: data}

    def failure(self, data: Mapping[str, Any]) -> int | None:
        """Say which status an error inside a stream stands for."""
        error = data.get("error")
        if not error:
            return None
        code = error.get("code") if isinstance(error, Mapping) else None
        return code if isinstance(code, int) and code >= 400 else 500  # noqa: PLR2004 - HTTP's errors begin there

    def refused(self, status: int, text: str) -> int:
        """Google answers 400 for a wrong key."""
        return 401 if status == 400 and "API_KEY_INVALID" in text else status  # noqa: PLR2004 - HTTP's bad request

    def reader(self) -> Reader:
        """Return the reader of one stream."""
        return _ContentReader()


class _ContentReader:
    def __init__(self) -> None:
        self.done = self.over = False  # nothing marks the end: the connection's own does
        self._calls = 0

    def read(self, event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        usage = _usage(event.get("usageMetadata"))
        if not event.get("candidates"):
            blocked = (event.get("promptFeedback") or {}).get("blockReason")
            self.done = self.done or bool(blocked)
            said: dict[str, Any] = {"content": f"Google refused the prompt: {blocked}"} if blocked else {}
            yield chunk(said, "content_filter" if blocked else None, usage)
            return
        candidate = event["candidates"][0]
        text, thought, calls = _read_parts(candidate)
        numbered = [{"index": self._calls + index, **call} for index, call in enumerate(calls)]
        self._calls += len(calls)
        finish = candidate.get("finishReason")
        self.done = self.done or bool(finish)
        delta = {"content": text, "reasoning_content": thought, "tool_calls": numbered}
        said = {name: value for name, value in delta.items() if value}
        yield chunk(said, _finish(finish, called=bool(self._calls)) if finish else None, usage)


# The conversation


def _conversation(model: str, given: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    names: dict[Any, str] = {}  # tool call id -> the function's name, which a result must repeat
    for message in given:
        if message["role"] in {"system", "developer"}:
            system += [_part(part) for part in parts_of(message.get("content"))]
            continue
        role = "model" if message["role"] == "assistant" else "user"
        names |= {call.get("id"): call["function"]["name"] for call in message.get("tool_calls") or ()}
        parts = _result(message, names) if message["role"] == "tool" else _parts(model, message)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return system, contents


def _parts(model: str, message: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts = [_part(part) for part in parts_of(message.get("content"))]
    for index, call in enumerate(message.get("tool_calls") or ()):
        part: dict[str, Any] = {"functionCall": {"name": call["function"]["name"], "args": arguments_of(call)}}
        signature = ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature")
        if signature is None and index == 0 and _has_levels(model):
            signature = UNSIGNED
        parts.append({**part, "thoughtSignature": signature} if signature else part)
    return parts


def _result(message: Mapping[str, Any], names: Mapping[Any, str]) -> list[dict[str, Any]]:
    name = message.get("name") or names.get(message.get("tool_call_id"))
    if not name:
        raise no_form(
            _API,
            f"tool result without its call (tool_call_id={message.get('tool_call_id')!r})",
            "keep the assistant's message with that tool call in the conversation",
        )
    return [{"functionResponse": {"name": name, "response": {"result": text_of(message.get("content"))}}}]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text":
        return {"text": part["text"]}
    media = media_of(part)
    if media is None:
        if "type" in part:
            raise no_form(_API, f"content part of type {part['type']!r}", "give text, image_url, input_audio or file")
        return dict(part)  # already in Google's form
    return _media_part(media)


def _media_part(media: Media) -> dict[str, Any]:
    where = media.url or media.file_id
    if where:
        return {"fileData": {**({"mimeType": media.mime} if media.mime else {}), "fileUri": where}}
    mime = media.mime or {"image": "image/png", "audio": "audio/wav"}.get(media.kind, "")
    if not mime:
        hint = "give file_data as a data URL (data:application/pdf;base64,…), or a filename with an ending"
        raise no_form(_API, "file of unknown type", hint)
    return {"inlineData": {"mimeType": mime, "data": media.data}}


# The options


def _format(wanted: Any) -> dict[str, Any]:
    schema = schema_of(wanted)
    if schema is None:
        return {}
    return {"responseMimeType": "application/json", **({"responseJsonSchema": schema} if schema else {})}


def _has_levels(model: str) -> bool:
    """Gemini 3 and later take thinking levels; before it there were budgets."""
    number = model.removeprefix("models/").removeprefix("gemini-")[:1]
    return "gemini-" in model and number.isdigit() and int(number) >= 3  # noqa: PLR2004 - the generation


def _thinking(model: str, effort: Any) -> dict[str, Any]:
    if effort is None:
        return {}
    if _has_levels(model):
        level = {"none": "minimal", "disable": "minimal", "xhigh": "high", "max": "high"}.get(effort, effort)
        return {"thinkingConfig": {"thinkingLevel": level, "includeThoughts": True}}
    if effort in {"none", "disable"}:
        return {"thinkingConfig": {"thinkingBudget": 0}}
    if effort not in BUDGETS:
        raise no_form(_API, f"reasoning_effort={effort!r}", f"give one of {', '.join(BUDGETS)} or none")
    return {"thinkingConfig": {"thinkingBudget": BUDGETS[effort], "includeThoughts": True}}


def _tools(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    functions = [_function(tool["function"]) for tool in given if "function" in tool]
    served = [dict(tool) for tool in given if "function" not in tool]  # Google's own tools, in its form
    return [*([{"functionDeclarations": functions}] if functions else []), *served]


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        declared["description"] = function["description"]
    if (function.get("parameters") or {}).get("properties"):
        declared["parametersJsonSchema"] = function["parameters"]
    return declared


def _tool_config(choice: Any) -> dict[str, Any]:
    if choice is None:
        return {}
    if isinstance(choice, Mapping):
        config = {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}
    else:
        config = {"mode": {"none": "NONE", "required": "ANY"}.get(choice, "AUTO")}
    return {"toolConfig": {"functionCallingConfig": config}}


# The answer


def _choice(index: int, candidate: Mapping[str, Any]) -> dict[str, Any]:
    text, thought, calls = _read_parts(candidate)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    message |= {"reasoning_content": thought} if thought else {}
    message |= {"tool_calls": calls} if calls else {}
    return {"index": index, "message": message, "finish_reason": _finish(candidate.get("finishReason"), called=bool(calls))}


def _read_parts(candidate: Mapping[str, Any]) -> tuple[str, str, list[dict[str, Any]]]:
    text, thought = "", ""
    calls: list[dict[str, Any]] = []
    for part in (candidate.get("content") or {}).get("parts") or ():
        if part.get("thought"):
            thought += part.get("text") or ""
        elif "functionCall" in part:
            found = part["functionCall"]
            call = tool_call(found.get("id") or f"call_{uuid.uuid4().hex[:24]}", found["name"], found.get("args"))
            if part.get("thoughtSignature"):  # to be handed back with the call; the field's name is Google's own
                call["extra_content"] = {"google": {"thought_signature": part["thoughtSignature"]}}
            calls.append(call)
        else:
            text += part.get("text") or ""
    return text, thought, calls


def _finish(reason: Any, *, called: bool) -> str:
    if reason in _FILTERED:
        return "content_filter"
    return "tool_calls" if called else _FINISH.get(str(reason), "stop")


def _usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not usage:
        return None
    thought = usage.get("thoughtsTokenCount") or 0
    heard = sum(one.get("tokenCount") or 0 for one in usage.get("promptTokensDetails") or () if one.get("modality") == "AUDIO")
    return usage_of(
        (usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0),
        (usage.get("candidatesTokenCount") or 0) + thought,
        cached=usage.get("cachedContentTokenCount") or 0,
        reasoning=thought,
        audio=heard,
    )
