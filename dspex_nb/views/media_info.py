"""What is known of an image, a sound or a file in a value or a message: its kind, type, size and where it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.signatures.media import sniffed

_FEW = 200
_KINDS = {"Image": "image", "Audio": "audio", "File": "file"}


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """One medium.

    Attributes:
        kind: `"image"`, `"audio"` or `"file"`.
        mime: Its MIME type, empty if unknown.
        base64: Its bytes; empty where there is only an address, or they are `raw`.
        url: Its address; empty where there are bytes.
        name: The file's name, where it has one.
        raw: Its bytes, where it was given as such.
    """

    kind: str
    mime: str = ""
    base64: str = ""
    url: str = ""
    name: str = ""
    raw: bytes = field(default=b"", repr=False)

    @property
    def size_bytes(self) -> int:
        """About how many bytes it has."""
        return len(self.raw) or len(self.base64) * 3 // 4

    @property
    def key(self) -> int:
        """What tells its bytes from others'; found at once the second time."""
        return hash(self.raw or self.base64)

    @property
    def data(self) -> bytes:
        """Its bytes; binascii.Error if what it holds is no base64."""
        return self.raw or base64.b64decode(self.base64)

    @property
    def data_url(self) -> str:
        """Its bytes as a data: address."""
        return f"data:{self.mime};base64,{self.base64 or base64.b64encode(self.raw).decode()}"

    @property
    def label(self) -> str:
        """The medium in words: `image/png, 12 kB`."""
        size = f", {max(1, round(self.size_bytes / 1000)):,} kB" if self.size_bytes else ""
        what = self.name or self.mime or self.kind
        told = f"{what} ({self.mime})" if self.name and self.mime else what
        return f"{told}{size}" if not self.url else f"{self.kind} at {self.url[:120]}"


def media_info(value: Any) -> MediaInfo | None:
    """Return what is known of bytes or of DSPy's `Image`, `Audio` or `File`, whose import is not needed; None for others.

    A few bytes of no known kind are a value like any other.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        mime = sniffed(raw)
        if not mime and len(raw) <= _FEW:
            return None
        kind = mime.partition("/")[0]
        return MediaInfo(kind if kind in ("image", "audio") else "file", mime, name="" if mime else "bytes", raw=raw)
    for base in type(value).__mro__:
        if base.__module__.startswith("dspy.") and base.__name__ in _KINDS:
            break
    else:
        return None
    kind = _KINDS[base.__name__]
    if kind == "image":
        return _at(kind, str(value.url))
    if kind == "audio":
        return MediaInfo(
            kind, f"audio/{ {'mp3': 'mpeg', 'm4a': 'mp4'}.get(value.audio_format, value.audio_format) }", str(value.data)
        )
    return _at(kind, str(value.file_data or value.file_id or ""), str(value.filename or ""))


def part_info(part: Any) -> MediaInfo | None:
    """Return what is known of a message's content part in OpenAI's form; None if it is no medium."""
    if not isinstance(part, Mapping):
        return None
    kind = part.get("type")
    if kind == "image_url":
        image = part.get("image_url")
        return _at("image", str(image.get("url", "")) if isinstance(image, Mapping) else str(image))
    if kind == "input_audio" and isinstance(sound := part.get("input_audio"), Mapping):
        return MediaInfo("audio", f"audio/{sound.get('format', '')}", str(sound.get("data", "")))
    if kind == "file" and isinstance(file := part.get("file"), Mapping):
        return _at("file", str(file.get("file_data") or file.get("file_id") or ""), str(file.get("filename") or ""))
    return None


def part_text(part: Any) -> str:
    """Return a content part as text: a medium in words, never its bytes."""
    info = part_info(part)
    if info is not None:
        return f"[{info.label}]"
    if isinstance(part, Mapping):
        return str(part.get("text", f"[{part.get('type', 'part')}]"))
    return str(part)


def _at(kind: str, where: str, name: str = "") -> MediaInfo:
    if where.startswith("data:"):
        head, _, body = where[5:].partition(",")
        return MediaInfo(kind, head.partition(";")[0], body, name=name)
    return MediaInfo(kind, url=where, name=name)
