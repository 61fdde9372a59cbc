"""The Milvus of the package `milvus`, in a network namespace of its own: it listens on every interface, so it is given only loopback.

    unshare --net ... python milvus_server.py <folder> <number of an inherited socket>

The socket listens outside the namespace; what comes by it is passed on to the server inside.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

from milvus import MilvusServer, MilvusServerConfig


def main(folder, number):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = MilvusServer(MilvusServerConfig(data_dir=folder))
    server.config.set("authorization_enabled", True)
    server.start()
    asyncio.run(relay(socket.socket(fileno=int(number)), server.listen_port))


async def relay(outside, port):
    async def connected(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copied(reader, inner_writer), copied(inner_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(connected, sock=outside) as server:
        await server.serve_forever()


async def copied(reader, writer):
    try:
        while found := await reader.read(65536):
            writer.write(found)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
