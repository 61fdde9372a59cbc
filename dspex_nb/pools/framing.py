"""A message on a pipe: one line of JSON, then `blob_bytes` raw bytes where it says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol


class Source(Protocol):
    """What a message is read from: a buffered binary file."""

    def readline(self) -> bytes:
        """Return the next line, empty at the end."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        ...


class Sink(Protocol):
    """What a message is written to: a binary file."""

    def write(self, data: bytes, /) -> int:
        """Write all of `data`."""
        ...

    def flush(self) -> None:
        """Hand on what is buffered."""
        ...


def write_message(sink: Sink, message: Mapping[str, Any], blob: bytes | None = None) -> None:
    """Write one message; the caller keeps other writers out."""
    if blob is None:
        sink.write(json.dumps(message).encode() + b"\n")
    else:
        sink.write(json.dumps({**message, "blob_bytes": len(blob)}).encode() + b"\n")
        sink.write(blob)
    sink.flush()


def read_message(source: Source) -> dict[str, Any] | None:
    """Read one message, its bytes under `"blob"`; None at the end of the pipe, also in the middle of a message."""
    line = source.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    size = message.pop("blob_bytes", None)
    if size is not None:
        message["blob"] = source.read(size)
        if len(message["blob"]) < size:
            return None
    return message
