"""A bare chat-completions server: answers every POST alike, so that a benchmark measures its client and not this.

    python stub_server.py PORT [DELAY_MS]

With uvloop installed it uses that. Listens on 127.0.0.1 alone; ends when its standard input closes.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading

ANSWER = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
BODY = json.dumps({
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}).encode()  # fmt: skip
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
MARK = b"content-length:"


class Answering(asyncio.Protocol):
    """One connection: counts off requests by their length and answers each."""

    delay_s = 0.0

    def connection_made(self, transport):
        self.transport, self.waiting = transport, b""

    def data_received(self, data):
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = self.waiting[:end].lower()
            at = head.find(MARK)
            length = int(head[at + len(MARK) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.waiting) < end + 4 + length:
                return
            body, self.waiting = self.waiting[end + 4 : end + 4 + length], self.waiting[end + 4 + length :]
            if self.delay_s:
                asyncio.get_running_loop().call_later(self.delay_s, self.answer, body)
            else:
                self.answer(body)

    def answer(self, body):
        if not self.transport.is_closing():
            self.transport.write(self.reply(body))

    def reply(self, body):
        """Return the whole reply to a request's body."""
        return REPLY


async def serve(port, protocol=Answering):
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    server = await loop.create_server(protocol, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    server.close()


@contextlib.contextmanager
def running(delay_ms=0, file=__file__):
    """Run the server (or another's file) in a process of its own; gives its base URL."""
    server = subprocess.Popen(
        [sys.executable, file, "0", str(delay_ms)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.stdin.close()
        server.wait(10)


def main(protocol=Answering):
    """Serve until standard input closes."""
    protocol.delay_s = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    asyncio.run(serve(int(sys.argv[1]), protocol))


if __name__ == "__main__":
    main()
