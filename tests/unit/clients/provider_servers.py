"""Servers that check the wire against the documented format of Anthropic's messages and Google's generateContent, and answer so.

What does not follow the format is answered 400, as there; every request is kept in `requests` with its path and headers.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading

FINISHES = {"anthropic": "end_turn", "google": "STOP"}


class ProviderServer:
    """Answers `text` in the format of one API, whole or streamed word by word."""

    def __init__(self, api, text="Green it is"):
        self.api, self.text, self.requests = api, text, []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append((self.path, headers, body))
                check, whole, stream = {"anthropic": (anthropic, message, events), "google": (google, content, contents)}[api]
                if wrong := check(self.path, headers, body):
                    return self.reply(400, {"type": "error", "error": {"type": "invalid_request_error", "message": wrong}})
                if body.get("stream") or "alt=sse" in self.path:
                    return self.stream(stream(server.text, body))
                return self.reply(200, whole(server.text, body))

            def reply(self, status, data):
                content = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def stream(self, lines):
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for name, data in lines:
                    event = f"event: {name}\n" if name else ""
                    self.wfile.write(f"{event}data: {json.dumps(data)}\n\n".encode())
                self.close_connection = True

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._server.shutdown()
            self._server.server_close()

    @property
    def last(self):
        """The last request's body."""
        return self.requests[-1][2]


def anthropic(path, headers, body):  # noqa: PLR0911 - one return a rule
    """Return what is wrong with a messages request, or an empty text."""
    top = {
        "model", "messages", "max_tokens", "system", "stream", "stop_sequences", "temperature", "top_p", "top_k", "tools",
        "tool_choice", "thinking", "metadata", "output_config", "service_tier",
    }  # fmt: skip
    if path != "/v1/messages":
        return f"not found: {path}"
    if not headers.get("x-api-key") or headers.get("anthropic-version") != "2023-06-01":
        return "x-api-key and anthropic-version are required"
    if extra := set(body) - top:
        return f"{extra.pop()}: Extra inputs are not permitted"
    if not isinstance(body.get("max_tokens"), int) or not body.get("messages"):
        return "max_tokens and messages are required"
    roles = [one["role"] for one in body["messages"]]
    if roles != [("user", "assistant")[index % 2] for index in range(len(roles))]:
        return f"roles must alternate: {roles}"
    kinds = {"text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"}
    for block in (block for one in body["messages"] for block in one["content"]):
        if block["type"] not in kinds or (block["type"] == "text" and not block["text"]):
            return f"messages: unknown or empty block {block}"
        if "source" in block and block["source"]["type"] not in {"base64", "url", "file", "text"}:
            return "messages: unknown source"
    for tool in body.get("tools", ()):
        if set(tool) - {"name", "description", "input_schema", "strict"} or "input_schema" not in tool:
            return f"tools: {tool}"
    if body.get("tool_choice", {"type": "auto"})["type"] not in {"auto", "any", "tool", "none"}:
        return "tool_choice"
    return _output_config(body.get("output_config", {}))


def _output_config(config):
    if set(config) - {"format", "effort"}:
        return "output_config: extra inputs"
    form = config.get("format")
    if form and (set(form) != {"type", "schema"} or form["schema"].get("additionalProperties") is not False):
        return "output_config.format: additionalProperties must be false"
    return ""


def message(text, body):
    blocks = [{"type": "text", "text": text}]
    if body.get("tool_choice", {}).get("type") == "tool":
        blocks = [{"type": "tool_use", "id": "toolu_1", "name": body["tool_choice"]["name"], "input": {"colour": text}}]
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": blocks,
        "stop_reason": "tool_use" if blocks[0]["type"] == "tool_use" else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 7, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 4},
    }  # fmt: skip


def events(text, body):
    whole = message(text, body)
    yield "message_start", {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    for index, block in enumerate(whole["content"]):
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": empty}
        yield "ping", {"type": "ping"}
        said = block["text"] if block["type"] == "text" else json.dumps(block["input"])
        kind, field = ("text_delta", "text") if block["type"] == "text" else ("input_json_delta", "partial_json")
        for at in range(0, len(said), 4):
            delta = {"type": kind, field: said[at : at + 4]}
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 4}}
    yield "message_stop", {"type": "message_stop"}


def google(path, headers, body):  # noqa: PLR0911 - one return a rule
    """Return what is wrong with a generateContent request, or an empty text."""
    how = path.partition(":")[2]
    if not path.startswith("/v1beta/models/") or how not in {"generateContent", "streamGenerateContent?alt=sse"}:
        return f"not found: {path}"
    if not headers.get("x-goog-api-key") or "key=" in path:
        return "the key belongs in x-goog-api-key"
    top = {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings", "cachedContent"}
    if extra := set(body) - top:
        return f'Unknown name "{extra.pop()}": Cannot find field.'
    known = {
        "temperature", "topP", "topK", "seed", "maxOutputTokens", "stopSequences", "candidateCount", "responseMimeType",
        "responseJsonSchema", "thinkingConfig", "presencePenalty", "frequencyPenalty",
    }  # fmt: skip
    if extra := set(body.get("generationConfig", {})) - known:
        return f'Unknown name "{extra.pop()}" at generation_config'
    for one in body["contents"]:
        if one["role"] not in {"user", "model"} or not one["parts"]:
            return "contents: a role and parts"
        for part in one["parts"]:
            if len(set(part) & {"text", "inlineData", "fileData", "functionCall", "functionResponse"}) != 1:
                return f"contents: one kind of data a part, not {part}"
    for tool in body.get("tools", ()):
        if set(tool) != {"functionDeclarations"}:
            return "tools"
    return ""


def content(text, body):
    count = body.get("generationConfig", {}).get("candidateCount", 1)
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": index}
            for index in range(count)
        ],
        "usageMetadata": {
            "promptTokenCount": 12, "candidatesTokenCount": 3, "thoughtsTokenCount": 5, "cachedContentTokenCount": 4,
            "totalTokenCount": 20,
        },
        "modelVersion": "gemini",
    }  # fmt: skip


def contents(text, body):
    whole = content(text, body)
    for at in range(0, len(text), 4):
        part = {"text": text[at : at + 4]}
        yield "", {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}], "modelVersion": "gemini"}
    last = {"content": {"role": "model", "parts": []}, "finishReason": "STOP", "index": 0}
    yield "", {"candidates": [last], "usageMetadata": whole["usageMetadata"]}
