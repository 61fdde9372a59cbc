"""A real HTTP server for tests of the façade: it answers every output field that a chat prompt asks for."""

import http.server
import json
import re
import threading

import pytest

KINDS = {"int": "3", "float": "0.5", "bool": "True"}


def fields_asked(text):
    """Return the fields that DSPy's chat prompt asks for, each with an answer that depends on the prompt alone."""
    asked = text.rpartition("Respond with the corresponding output fields, starting with the field ")[2]
    names = re.findall(r"\[\[ ## (\w+) ## \]\]`?(?: \(must be formatted as a valid Python (\w+)\))?", asked)
    return {name: KINDS.get(kind, f"{name} of {len(text)}") for name, kind in names if name != "completed"}


class ChatServer:
    """Answers at `url`; `bodies` holds what it was sent, in order of arrival."""

    def __init__(self):
        self.bodies = []
        answering = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answering.bodies.append(body)
                text = body["messages"][-1]["content"]
                parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields_asked(text).items()]
                said = "\n\n".join([*parts, "[[ ## completed ## ]]"]) if parts else f"heard {len(text)}"
                message = {"role": "assistant", "content": said}
                choices = [{"index": index, "message": message, "finish_reason": "stop"} for index in range(body.get("n") or 1)]
                usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
                reply = json.dumps(
                    {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
                ).encode()
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
def chat_server():
    server = ChatServer()
    yield server
    server.close()
