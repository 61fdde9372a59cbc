"""A relay on loopback before a real server that keeps back what is asked, so that a test sees how many ask at once."""

from __future__ import annotations

import asyncio
import threading

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9


class Gate:
    """Passes on all there is, until `shut`: from then on a connection's bytes are kept from its first that ask for a search.

    Args:
        port: Where the server listens.
        marker: What a search's bytes hold; none for HTTP/2, where each stream's beginning is a search.
    """

    def __init__(self, port, marker=b""):
        self.inner, self.marker = port, marker
        self.connections, self.kept, self.later, self.is_shut = 0, {}, [], False
        self.loop, self.ready = asyncio.new_event_loop(), threading.Event()
        self.opening = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.ready.wait(10)

    def shut(self):
        self.opening, self.is_shut = asyncio.Event(), True

    def open(self):
        self.is_shut = False
        self.loop.call_soon_threadsafe(self.opening.set)

    @property
    def waiting(self):
        """How many searches were asked for since the gate was shut."""
        held = [b"".join(chunks) for chunks in list(self.kept.values())]
        return sum(one.count(self.marker) if self.marker else streams(one) for one in held)

    def end(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _connected(self, reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.inner)
        self.connections += 1
        try:
            await asyncio.gather(self._asked(reader, inner_writer), copied(inner_reader, writer), return_exceptions=True)
        finally:
            self.connections -= 1

    async def _asked(self, reader, writer):
        kept = []
        try:
            while chunk := await reader.read(65536):
                if self.is_shut and (kept or self.marker in chunk):
                    kept.append(chunk)
                    if len(kept) == 1:
                        self.kept[reader] = kept
                        self.later.append(asyncio.ensure_future(self._later(reader, kept, writer)))
                else:
                    writer.write(chunk)
                    await writer.drain()
        finally:
            writer.close()

    async def _later(self, reader, kept, writer):
        await self.opening.wait()
        del self.kept[reader]
        writer.write(b"".join(kept))
        kept.clear()


async def copied(reader, writer):
    try:
        while found := await reader.read(65536):
            writer.write(found)
            await writer.drain()
    finally:
        writer.close()


def streams(sent):
    """How many streams of HTTP/2 bytes begin that start at a frame's first."""
    sent = sent.removeprefix(_PREFACE)
    found, at = 0, 0
    while at + _HEAD <= len(sent):
        found += sent[at + 3] == 1  # HEADERS
        at += _HEAD + int.from_bytes(sent[at : at + 3], "big")
    return found
