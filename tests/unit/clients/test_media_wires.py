"""Images, sounds and files over real HTTP, checked by the rules of each provider's API; natively and through DSPy alike."""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import struct
import threading
import wave
import zlib

import pytest

import dspex_nb as dx
from dspex_nb.errors import StepError

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"
MAGIC = {
    "image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8", "image/webp": b"RIFF", "application/pdf": b"%PDF",
    "audio/wav": b"RIFF", "audio/mp3": b"ID3", "audio/mpeg": b"ID3",
}  # fmt: skip
PATHS = {"/v1/chat/completions": "chat", "/v1/responses": "responses", "/v1/messages": "anthropic"}
IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp"}


def png():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")


def wav():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 8)
    return out.getvalue()


class WrongError(Exception):
    """A rule of the API that a request breaks."""


def must(condition, what):
    if not condition:
        raise WrongError(what)


def taken(mime, data, allowed):
    """The bytes of an inline medium, if it is what it says it is."""
    must(mime in allowed, f"{mime} is none of {sorted(allowed)}")
    raw = base64.b64decode(data, validate=True)
    must(raw.startswith(MAGIC[mime]), f"these bytes are no {mime}")
    return mime, raw


def data_url(text, allowed):
    must(text.startswith("data:") and ";base64," in text, f"{text[:20]} is no data: URL")
    mime, _, data = text[5:].partition(";base64,")
    return taken(mime, data, allowed)


def chat(body):
    """OpenAI's chat completions."""
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            kind = part["type"]
            must(set(part) == {"type", {"text": "text"}.get(kind, kind)}, f"unknown fields in {sorted(part)}")
            if kind == "image_url":
                must(set(part[kind]) <= {"url", "detail"}, "image_url: url and detail")
                where = part[kind]["url"]
                yield ("url", where) if where.startswith("https://") else data_url(where, IMAGES)
            elif kind == "input_audio":
                must(
                    set(part[kind]) == {"data", "format"} and part[kind]["format"] in {"wav", "mp3"},
                    "input_audio: data, wav or mp3",
                )
                yield taken(f"audio/{part[kind]['format']}", part[kind]["data"], {"audio/wav", "audio/mp3"})
            elif kind == "file":
                must(set(part[kind]) == {"filename", "file_data"} and part[kind]["filename"], "file: filename and file_data")
                yield data_url(part[kind]["file_data"], {"application/pdf"})
            else:
                must(kind == "text", f"no part of type {kind}")


def responses(body):
    """OpenAI's responses."""
    for item in body["input"]:
        for part in item["content"] if isinstance(item.get("content"), list) else ():
            if part["type"] == "input_image":
                where = part["image_url"]
                must(isinstance(where, str), "input_image: image_url is a text")
                yield ("url", where) if where.startswith("https://") else data_url(where, IMAGES)
            elif part["type"] == "input_file":
                must(part.get("filename"), "input_file: filename")
                yield data_url(part["file_data"], {"application/pdf"})
            else:
                must(part["type"] in {"input_text", "output_text"}, f"no part of type {part['type']}")


def anthropic(body):
    """Anthropic's messages."""
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] in ("image", "document"):
                source = block["source"]
                if source["type"] == "url":
                    must(set(source) == {"type", "url"}, "source: type and url")
                    yield "url", source["url"]
                    continue
                must(set(source) == {"type", "media_type", "data"} and source["type"] == "base64", f"source: {sorted(source)}")
                yield taken(source["media_type"], source["data"], IMAGES if block["type"] == "image" else {"application/pdf"})
            else:
                must(block["type"] == "text" and block["text"], f"no block of type {block['type']}")


def google(body):
    """Google's generateContent."""
    for one in body["contents"]:
        for part in one["parts"]:
            if "inlineData" in part:
                must(set(part["inlineData"]) == {"mimeType", "data"}, "inlineData: mimeType and data")
                yield taken(part["inlineData"]["mimeType"], part["inlineData"]["data"], set(MAGIC))
            elif "fileData" in part:
                must(set(part["fileData"]) <= {"mimeType", "fileUri"}, "fileData: mimeType and fileUri")
                yield "url", part["fileData"]["fileUri"]
            else:
                must(set(part) == {"text"}, f"contents: {sorted(part)}")


def said(api, text):
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    return {
        "chat": {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}], "usage": usage},
        "responses": {
            "status": "completed", "usage": {"input_tokens": 9, "output_tokens": 2},
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}],
        },
        "anthropic": {
            "type": "message", "role": "assistant", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
            "usage": {"input_tokens": 9, "output_tokens": 2},
        },
        "google": {
            "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
        },
    }[api]  # fmt: skip


class Provider:
    """Checks what comes by the rules of the API asked for, and keeps the media that it holds."""

    def __init__(self):
        provider = self
        self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                api = PATHS.get(self.path) or "google"
                try:
                    must(api != "google" or self.path.startswith("/v1beta/models/"), f"no {self.path}")
                    found = list({"chat": chat, "responses": responses, "anthropic": anthropic, "google": google}[api](body))
                    status, answer = 200, said(api, '{"answer": "seen"}')
                    provider.seen.append((api, found))
                except (WrongError, KeyError, ValueError, TypeError) as error:
                    status, answer = 400, {"error": {"message": f"{type(error).__name__}: {error}"}}
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self._server.shutdown()
            self._server.server_close()


@pytest.fixture
def provider():
    made = Provider()
    try:
        yield made
    finally:
        made.close()


def lm_of(name, provider):
    models = {
        "chat": ("openai/gpt-4o-audio-preview", "/v1", {}), "responses": ("openai/gpt-5", "/v1", {"model_type": "responses"}),
        "anthropic": ("anthropic/claude-sonnet-4-5", "/v1", {}), "google": ("gemini/gemini-2.5-flash", "/v1beta", {}),
    }  # fmt: skip
    model, version, more = models[name]
    return dx.LM(model, api_key="key-of-tests", api_base=f"{provider.url}{version}", num_retries=0, cache=False, **more)


GIVEN = {"image": ("dspy.Image", png()), "audio": ("dspy.Audio", wav()), "file": ("dspy.File", PDF)}
MIMES = {"image": "image/png", "audio": "audio/wav", "file": "application/pdf"}


@pytest.mark.parametrize("engine", ["native", "dspy"])
@pytest.mark.parametrize("kind", ["image", "audio", "file"])
@pytest.mark.parametrize("name", ["chat", "responses", "anthropic", "google"])
def test_each_provider_gets_what_was_given(name, kind, engine, provider):
    type_, data = GIVEN[kind]
    import dspy

    step = dx.predict(f"medium: {type_}, question -> answer", engine=engine, adapter="json")
    inputs = {"medium": getattr(dspy, type_.removeprefix("dspy.")), "question": str}
    ask = dx.Pipeline("ask", inputs=inputs, answering=step)
    with dx.context(lm=lm_of(name, provider), cache=None):
        if (name, kind) in {("anthropic", "audio"), ("responses", "audio")}:
            with pytest.raises(StepError, match="takes no audio"):  # told before anything is sent
                ask(medium=data, question="What is it?")
            assert provider.seen == []
            return
        assert ask(medium=data, question="What is it?").answer == "seen"
    ((api, found),) = provider.seen
    assert api == name
    assert found == [(MIMES[kind], data)]


@pytest.mark.parametrize("name", ["chat", "responses", "anthropic", "google"])
def test_an_address_is_sent_as_an_address(name, provider):
    ask = dx.Predict("pictures: list[dspy.Image] -> answer", adapter="json")
    with dx.context(lm=lm_of(name, provider), cache=None):
        ask(pictures=["https://example.com/a.jpg", png()])
    assert provider.seen[0][1] == [("url", "https://example.com/a.jpg"), ("image/png", png())]


def test_a_dspy_program_on_our_client(provider):
    import dspy

    lm = lm_of("anthropic", provider)
    with dspy.context(lm=lm.dspy, adapter=dspy.JSONAdapter()):
        said = dspy.Predict("picture: dspy.Image, paper: dspy.File -> answer")(picture=dx.image(png()), paper=dx.file(PDF))
    assert said.answer == "seen"
    assert provider.seen[0][1] == [("image/png", png()), ("application/pdf", PDF)]
