"""What is known of an image, a sound or a file in a value or a message: its kind, type, size and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_KINDS = {"Image": "image", "Audio": "audio", "File": "file"}


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """One medium.

    Attributes:
        kind: `"image"`, `"audio"` or `"file"`.
        mime: Its MIME type, empty if unknown.
        base64: Its bytes; empty where there is only an address.
        url: Its address; empty where there are bytes.
        name: The file's name, where it has one.
    """

    kind: str
    mime: str = ""
    base64: str = ""
    url: str = ""
    name: str = ""

    @property
    def size_bytes(self) -> int:
        """About how many bytes it has."""
        return len(self.base64) * 3 // 4

    @property
    def label(self) -> str:
        """The medium in words: `image/png, 12 kB`."""
        size = f", {max(1, round(self.size_bytes / 1000)):,} kB" if self.base64 else ""
        what = self.name or self.mime or self.kind
        told = f"{what} ({self.mime})" if self.name and self.mime else what
        return f"{told}{size}" if not self.url else f"{self.kind} at {self.url[:120]}"


def media_info(value: Any) -> MediaInfo | None:
    """Return what is known of a value of DSPy's `Image`, `Audio` or `File`, of which no import is needed; None for others."""
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
