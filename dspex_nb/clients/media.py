"""Media: an image, a sound or a file in a message, read from OpenAI's form, so that each dialect can write it in its own."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_AUDIO = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_ADDRESSES = ("http://", "https://", "gs://")


@dataclass(frozen=True, slots=True)
class Media:
    """What a content part brings beside text; one of `data`, `url` and `file_id` is set.

    Attributes:
        kind: `"image"`, `"audio"` or `"file"`.
        mime: Its MIME type, empty where nothing says.
        data: Its bytes in base64.
        url: Its address.
        file_id: Its name among the files uploaded to the provider.
        filename: The name it goes by.
    """

    kind: str
    mime: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    filename: str = ""


def media_of(part: Mapping[str, Any]) -> Media | None:
    """Read a content part; None if it is none of OpenAI's media parts."""
    kind = part.get("type")
    if kind == "image_url":
        image = part["image_url"]
        image = {"url": image} if isinstance(image, str) else image
        return _at("image", str(image["url"]), str(image.get("format") or ""))
    if kind == "input_audio":
        sound = part["input_audio"]
        form = str(sound.get("format") or "")
        return _at("audio", str(sound["data"]), _AUDIO.get(form, f"audio/{form}" if form else ""))
    if kind == "file":
        return _file(part["file"])
    return None


def _file(file: Mapping[str, Any]) -> Media:
    name, mime = str(file.get("filename") or ""), str(file.get("format") or "")
    where = str(file.get("file_data") or file.get("file_url") or file.get("file_id") or "")
    if not file.get("file_data") and not where.startswith(_ADDRESSES):
        return Media("file", mime, file_id=where, filename=name)
    return _at("file", where, mime or mimetypes.guess_type(name)[0] or "", name)


def _at(kind: str, where: str, mime: str, filename: str = "") -> Media:
    if where.startswith("data:"):
        head, _, data = where[5:].partition(",")
        return Media(kind, head.partition(";")[0] or mime, data=data, filename=filename)
    if where.startswith(_ADDRESSES):
        return Media(kind, mime or mimetypes.guess_type(urlsplit(where).path)[0] or "", url=where, filename=filename)
    return Media(kind, mime, data=where, filename=filename)
