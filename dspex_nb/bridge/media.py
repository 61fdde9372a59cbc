"""Media as DSPy's types: what is given for an `Image`, `Audio` or `File` field becomes one."""

from __future__ import annotations

import mimetypes
from typing import Any

import dspy

from dspex_nb.errors import DataError
from dspex_nb.signatures.media import Medium, medium_of

KINDS = {dspy.Image: "image", dspy.Audio: "audio", dspy.File: "file"}
_FORMATS = {"audio/mpeg": "mp3", "audio/mp4": "m4a"}


def accept(kind: Any, value: Any, paths: bool) -> Any:  # noqa: FBT001 - the codecs' form
    """Return what was given for a field as its DSPy type; a value of that type as it is.

    Raises:
        DataError: It is nothing of the kind.
    """
    base = next((one for one in KINDS if issubclass(kind, one)), None)
    if base is None or value is None or isinstance(value, kind) or _formatted(value):
        return value
    return as_dspy(medium_of(value, KINDS[base], paths=paths), kind)


def as_dspy(medium: Medium, kind: Any = None) -> Any:
    """Return a medium as a `dspy.Image`, `dspy.Audio` or `dspy.File`.

    Raises:
        DataError: A sound or file of which there is only an address: DSPy's types hold bytes.
    """
    if medium.kind == "image":
        return (kind or dspy.Image)(url=medium.data_url)
    if medium.url:
        raise DataError(
            f"{medium.url[:80]!r} is an address; a field takes the {medium.kind} itself",
            hint=f"dx.{medium.kind}({medium.url[:80]!r}) fetches it",
        )
    if medium.kind == "audio":
        form = _FORMATS.get(medium.mime, medium.mime.partition("/")[2])
        return (kind or dspy.Audio)(data=medium.base64, audio_format=form)
    name = medium.name or f"file{mimetypes.guess_extension(medium.mime) or ''}"  # OpenAI takes no file without one
    return (kind or dspy.File)(file_data=medium.data_url, filename=name)


def _formatted(value: Any) -> bool:
    """Whether it is text that DSPy has marked already, or the fields of one of its types as a saved demo holds them."""
    return (isinstance(value, str) and "<<CUSTOM-TYPE" in value) or (
        isinstance(value, dict) and bool({"url", "audio_format", "file_data", "file_id"} & set(value))
    )
