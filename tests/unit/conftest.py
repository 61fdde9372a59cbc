"""Fixtures of every room's tests: a session of its own (home, root, shell), and a real server in a model's place."""

import http.server
import json
import threading

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
                told = {"error": {"message": "broken"}} if status != 200 else _completion(said, body)
                reply = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
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
