"""Fixtures of every room's tests: a session of its own (home, root, shell), and a real server in a model's place."""

import http.server
import importlib.util
import json
import random
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from dspex_nb import ambient
from dspex_nb.testing.shell import TestingShell


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A session nobody has used, with its cache and run store under `tmp_path`; gives that folder."""
    folder = tmp_path / "home"
    monkeypatch.setenv("DSPEX_HOME", str(folder))
    monkeypatch.setattr(ambient, "_root", ambient.Session())
    yield folder
    used = ambient._root
    if used.pools is not None:
        used.pools.close()
    if used.store is not None:
        used.store.close()


@pytest.fixture
def stumbling():
    """Gives `stumbling(module, act)`: `act()` with a pause before some of the module's lines, so that other threads get in."""

    def stumble(module, act):
        chance = random.Random(threading.get_ident() ^ time.perf_counter_ns())

        def trace(frame, kind, _):
            if kind == "call" and frame.f_code.co_filename != module.__file__:
                return None
            if kind == "line" and chance.random() < 0.3:
                time.sleep(chance.random() * 1e-4)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return act()
        finally:
            sys.settrace(before)

    return stumble


@pytest.fixture
def shell(fresh):
    with TestingShell() as running:
        yield running


class ModelServer:
    """A real HTTP server that answers chat completions at `url`; `bodies` holds what it was sent, in order of arrival.

    `answer(body)` gives a text, said in each of the choices asked for, a list of texts, one a choice, or the status of an error.
    """

    def __init__(self, answer):
        self.answer = answer
        self.bodies = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.bodies.append(body)
                said = server.answer(body)
                status = said if isinstance(said, int) else 200
                whole = {"error": {"message": "broken"}} if status != 200 else _completion(said, body)
                streamed = body.get("stream") and status == 200
                reply = _streamed(whole) if streamed else json.dumps(whole).encode()
                self.send_response(status)
                self.send_header("content-type", "text/event-stream" if streamed else "application/json")
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def _completion(said, body):
    texts = [said] * (body.get("n") or 1) if isinstance(said, str) else said
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "stub", "choices": choices, "usage": usage}


def _streamed(whole):
    """A completion as server-sent events, a word a piece."""
    words = re.findall(r"\s*\S+", whole["choices"][0]["message"]["content"])
    pieces = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": whole["usage"]}
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in [*pieces, end]).encode() + b"data: [DONE]\n\n"


@pytest.fixture
def model_server():
    """Starts servers in a model's place, `model_server(answer)`, and ends them after the test."""
    started = []

    def start(answer):
        started.append(ModelServer(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def bad():
    """The misbehaving server of the transport's tests."""
    path = Path(__file__).parent / "transport" / "misbehaving.py"
    spec = importlib.util.spec_from_file_location("misbehaving", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
