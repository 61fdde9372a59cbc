"""A server that misbehaves on request, on a real socket: each connection is answered by the next of its scripts."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time

ANSWER = {
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


def http(status=200, body=b"", headers=None, content_type="application/json"):
    """Return the bytes of a whole HTTP answer."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


GOOD = http(200, ANSWER)


class BadServer:
    """Answers request number i with `scripts[i]` (the last one for ever): bytes to send, or a function of the socket."""

    def __init__(self, *scripts):
        self.scripts = scripts
        self.requests = []
        self.closed_by_client = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer):
        with contextlib.suppress(OSError), peer:
            while (request := self._read(peer)) is not None:
                script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
                self.requests.append(request)
                if isinstance(script, bytes):
                    peer.sendall(script)
                elif script(peer) == "close":
                    return
            self.closed_by_client.set()

    @staticmethod
    def _read(peer):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = peer.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += peer.recv(65536)
        return head, body


def reset(peer):
    """Break the connection off with RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return "close"


def hang_up_silently(peer):
    """Close without a word."""
    return "close"


def cut(peer):
    """Promise more than is sent."""
    peer.sendall(GOOD[:-20])
    return "close"


def cut_in_the_middle(peer):
    """Promise more than is sent, in a form that a stream may have too."""
    peer.sendall(GOOD.partition(b"\r\n\r\n")[0] + b"\r\n\r\n: ")
    return "close"


def silence(peer):
    """Say nothing until the client goes."""
    peer.settimeout(10)
    peer.recv(1)
    return "close"


def drip(peer):
    """A byte at a time, each in time, never done."""
    for byte in GOOD:
        peer.sendall(bytes([byte]))
        time.sleep(0.02)


def answer_then_close(peer):
    """Answer well, then close the kept-alive connection."""
    peer.sendall(GOOD)
    return "close"


def stream(*pieces, done=True):
    """Return a script that streams text pieces as server-sent events and closes."""

    def script(peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: hello\n\n")
        for piece in pieces:
            peer.sendall(b"data: " + json.dumps({"choices": [{"delta": {"content": piece}}]}).encode() + b"\n\n")
            time.sleep(0.01)
        if done:
            peer.sendall(b"data: [DONE]\n\n")
        return "close"

    return script


def late(seconds):
    """Return a script that answers well after a while."""

    def script(peer):
        time.sleep(seconds)
        peer.sendall(GOOD)

    return script


def dripped_line(peer):
    """Stream one line a byte at a time, each in time, the line never done."""
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for _ in range(200):
        peer.sendall(b"d")
        time.sleep(0.02)
    return "close"


def cut_stream(*pieces):
    """Return a script that streams text pieces in chunks and goes without the last chunk."""

    def script(peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            line = b"data: " + json.dumps({"choices": [{"delta": {"content": piece}}]}).encode() + b"\n\n"
            peer.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            time.sleep(0.01)
        return "close"

    return script


def events(*lines, content_type="text/event-stream"):
    """Return the bytes of an event stream with these data lines."""
    body = b"".join(b"data: " + (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n\n" for line in lines)
    return http(200, body, content_type=content_type)


def whole_stream(text, usage=None, **more):
    """Return the bytes of a good stream: one piece, the end, the usage."""
    return events(
        {"choices": [{"delta": {"content": text}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": ANSWER["usage"] if usage is None else usage, **more},
        b"[DONE]",
    )
