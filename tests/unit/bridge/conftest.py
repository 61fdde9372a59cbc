"""A real HTTP server that answers chat completions and keeps what it was sent."""

import http.server
import json
import threading

import pytest


class Stub:
    """Answers by `answer(body)`; `bodies` holds the requests in the order they came."""

    def __init__(self):
        self.bodies = []
        self.answer = lambda body: '{"desk":"tech","urgency":2}'
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                stub.bodies.append(body)
                message = {"role": "assistant", "content": stub.answer(body)}
                data = {
                    "id": "x", "object": "chat.completion", "created": 1, "model": "stub",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
                }  # fmt: skip
                reply = json.dumps(data).encode()
                self.send_response(200)
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


@pytest.fixture
def stub():
    server = Stub()
    yield server
    server.close()


@pytest.fixture
def client(stub):
    from dspex_nb.clients import connect

    made = connect("openai/stub", api_base=stub.url, api_key="sk-secret-1234", temperature=0)
    yield made
    made.close()
