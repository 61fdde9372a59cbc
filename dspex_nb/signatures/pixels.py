"""`size_of`: how many pixels an image says it has, read from its head; nothing is decoded."""

from __future__ import annotations

import struct

_LONGEST = 1000  # segments of a JPEG before its size: a file with more is left to who decodes it
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}  # marks of a JPEG without a segment
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # marks whose segment tells the size


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, GIF, JPEG or WebP; None where the head does not tell."""
    try:
        if data.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", data, 6)
        elif data.startswith(b"\xff\xd8"):
            return _of_jpeg(data)
        elif data[8:16] == b"WEBPVP8X":
            width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        else:
            return None
    except struct.error:
        return None
    return width, height


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_LONGEST):
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF:  # noqa: PLR2004 - what every mark begins with
            return None
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 1 if kind == 0xFF else 2 if kind in _BARE else 2 + length  # noqa: PLR2004 - a mark may be filled up
    return None
