"""A real HTTP server on loopback that speaks three protocols: OpenAI's embeddings, the rerank API, and ColBERTv2's search."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

KEY = "sk-embedding-secret-key"


def vector(text, dimension=8):
    """A vector for a text, the same everywhere; not of length 1."""
    raw = hashlib.sha256(text.encode()).digest()
    return [raw[at] / 32 - 4 for at in range(dimension)]


class ModelServer:
    """Answers what follows the documented forms and refuses the rest with 400; `requests` keeps path, headers and body.

    Attributes:
        passages: What ColBERTv2's search looks in: text by title.
        failures: Statuses to answer next, before anything else.
        broken: An answer to give in place of the right one.
    """

    def __init__(self):
        self.requests, self.failures, self.broken, self.passages = [], [], None, {}
        self.meeting = None  # a barrier: requests wait there for each other
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                content = self.rfile.read(int(self.headers["content-length"]))
                body = json.loads(content) if content else {}
                if server.meeting is not None:
                    server.meeting.wait(20)
                self.answer(body)

            def do_GET(self):
                if server.meeting is not None:
                    server.meeting.wait(20)
                self.answer({})

            def answer(self, body):
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.requests.append((self.path, headers, body))
                if server.failures:
                    return self.reply(server.failures.pop(0), {"error": {"message": "not now"}})
                if server.broken is not None:
                    return self.reply(200, server.broken)
                known = {"/v1/embeddings": embeddings, "/v1/rerank": rerank, "/rerank": rerank, "/api/search": search}
                answer = known.get(urlsplit(self.path).path)
                if answer is None:
                    return self.reply(404, {"error": {"message": f"no {self.path}"}})
                return self.reply(*answer(server, self.command, self.path, headers, body))

            def reply(self, status, data):
                content = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128  # else many callers at once wait a second or more to be let in

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self._server.shutdown()
            self._server.server_close()

    @property
    def last(self):
        return self.requests[-1][2]


def embeddings(server, method, path, headers, body):
    texts = body.get("input")
    if method != "POST" or not isinstance(texts, list) or not all(isinstance(one, str) for one in texts) or len(texts) > 2048:
        return 400, {"error": {"message": "input: a list of at most 2048 texts"}}
    if set(body) - {"model", "input", "dimensions", "encoding_format", "user"} or not body.get("model"):
        return 400, {"error": {"message": f"unknown fields in {sorted(body)}"}}
    rows = [
        {"object": "embedding", "index": at, "embedding": vector(text, body.get("dimensions", 8))}
        for at, text in enumerate(texts)
    ]
    used = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return 200, {"object": "list", "model": body["model"], "data": rows[::-1], "usage": usage}


def rerank(server, method, path, headers, body):
    if set(body) - {"model", "query", "documents", "top_n", "return_documents", "max_chunks_per_doc"} or not body.get("query"):
        return 400, {"error": {"message": f"rerank does not take {sorted(body)}"}}
    wanted = set(body["query"].lower().split())
    scored = [(len(wanted & set(text.lower().split())) / len(wanted), at) for at, text in enumerate(body["documents"])]
    best = sorted(scored, key=lambda pair: (-pair[0], pair[1]))[: body.get("top_n") or len(scored)]
    results = [{"index": at, "relevance_score": score} for score, at in best]
    return 200, {"id": "rerank-1", "results": results, "meta": {"billed_units": {"search_units": 1}}}


def search(server, method, path, headers, body):
    """ColBERTv2's server as DSPy's clients know it: `query` and `k` in the address, or as JSON; `topk` comes back."""
    asked = body if method == "POST" else {name: found[0] for name, found in parse_qs(urlsplit(path).query).items()}
    if set(asked) != {"query", "k"}:
        return 400, {"error": {"message": f"query and k, not {sorted(asked)}"}}
    wanted = set(asked["query"].lower().split())
    found = sorted(server.passages.items(), key=lambda one: -len(wanted & set(one[1].lower().split())))[: int(asked["k"])]
    top = [
        {"pid": at, "rank": at + 1, "score": 30.0 - at, "prob": 0.5 / (at + 1), "text": f"{title} | {text}"}
        for at, (title, text) in enumerate(found)
    ]
    return 200, {"query": asked["query"], "topk": top}


@pytest.fixture
def server():
    made = ModelServer()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Retries at once."""
    from dspex_nb.clients import retries

    monkeypatch.setattr(retries, "BASE_S", 0.001)
