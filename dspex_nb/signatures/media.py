"""Media as a user has them: an image, a sound or a file from a path, bytes, an address, an array or an upload becomes a `Medium`.

Nothing is decoded here and nothing fetched: a medium's first and last bytes say what it is and whether it came whole. Pixels, and
images that models do not read, go to who was named by `provide_decoder`.
"""

from __future__ import annotations

import base64
import io
import mimetypes
import re
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from dspex_nb.errors import DataError
from dspex_nb.signatures.pixels import size_of

LIMITS = {"image": 20_000_000, "audio": 25_000_000, "file": 32_000_000}
"""Most bytes of a medium: what the providers take."""
MOST_PIXELS = 100_000_000
"""Most pixels of an image; a small file may say that it has many."""
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Images that the providers read; others are decoded and written anew first."""
SOUNDS = frozenset({"audio/wav", "audio/mpeg", "audio/flac", "audio/ogg", "audio/mp4", "audio/webm"})
_WEB = ("http://", "https://", "gs://")
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+=-]+)*?)(;base64)?,", re.ASCII)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF87a", "image/gif"), (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"), (b"ID3", "audio/mpeg"), (b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "audio/webm"), (b"BM", "image/bmp"), (b"II*\0", "image/tiff"), (b"MM\0*", "image/tiff"),
)  # fmt: skip
_ENDS = {"image/png": b"IEND", "image/jpeg": b"\xff\xd9", "application/pdf": b"%%EOF"}
_TAIL = 2048
_SLACK = 8  # bytes by which programs err when they write a RIFF file's length
_ENDLESS = 0x7F00_0000  # lengths from here on are those of recordings that were begun without knowing theirs
_LOUDEST = 2.0  # samples a little above 1 come of resampling
_MOST_CHANNELS = 8


_decoders: list[Callable[[Any], Medium]] = []


@dataclass(frozen=True, slots=True)
class Medium:
    """One image, sound or file: its bytes, or the address where it is.

    Attributes:
        kind: `"image"`, `"audio"` or `"file"`.
        mime: Its MIME type.
        data: Its bytes; empty where there is only an address.
        url: Its address; empty where there are bytes.
        name: The file's name, where it has one.
    """

    kind: str
    mime: str = ""
    data: bytes = b""
    url: str = ""
    name: str = ""

    @property
    def base64(self) -> str:
        """Its bytes as base64."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def data_url(self) -> str:
        """Its bytes as a data: address, or the address it has."""
        return self.url or f"data:{self.mime};base64,{self.base64}"


def provide_decoder(decode: Callable[[Any], Medium]) -> None:
    """Set who makes an image of pixels (see `is_pixels`) and of the bytes of a format that models do not read."""
    _decoders[:] = [decode]


def is_pixels(source: Any) -> bool:
    """Say whether a value is a PIL image or an array."""
    pil = type(source).__module__.startswith("PIL.") and hasattr(source, "tobytes") and hasattr(source, "convert")
    return pil or (hasattr(source, "__array__") and hasattr(source, "shape"))


def medium_of(source: Any, kind: str, *, paths: bool = True, max_bytes: int | None = None) -> Medium:
    """Return what `source` holds.

    Args:
        source: A `Path`, bytes, a data: or web address, `{"content": bytes, "name": …}`, an upload widget or its value, for an
            image also a PIL image or an array, for a sound an array with its rate, `(samples, 16000)`, and with `paths` a path as
            text.
        kind: `"image"`, `"audio"` or `"file"`.
        paths: Whether a text may name a file. Never for what a model may have written: it could name any file.
        max_bytes: The most bytes; the kind's limit if None.

    Raises:
        DataError: Nothing of that kind, a file that cannot be read, is too large or did not come whole.
    """
    limit = LIMITS[kind] if max_bytes is None else max_bytes
    if isinstance(source, str):
        return _of_text(source.strip(), kind, paths, limit)
    if isinstance(source, Path):
        return _of_file(source, kind, limit)
    if isinstance(source, bytes | bytearray | memoryview):
        return of_bytes(bytes(source), kind, limit=limit)
    upload = _upload(source)
    if upload is not None:
        return upload if isinstance(upload, Medium) else of_bytes(upload[0], kind, name=upload[1], mime=upload[2], limit=limit)
    if kind == "audio" and isinstance(source, tuple) and len(source) == 2:  # noqa: PLR2004 - samples and rate
        return Medium("audio", "audio/wav", wav_of(*source))
    if kind == "image" and _decoders and is_pixels(source):
        return _decoders[0](source)
    also = {"image": ", a PIL image or an array", "audio": ", or samples with their rate: (samples, 16000)"}.get(kind, "")
    raise DataError(
        f"cannot make {_a(kind)} of a {type(source).__name__}",
        hint=f"give a path, bytes, a web address or an upload{also}, or what dx.{kind}(…) returns",
    )


def of_bytes(data: bytes, kind: str, *, name: str = "", mime: str = "", limit: int | None = None) -> Medium:
    """Return bytes as a medium, once it is clear that they are one.

    Raises:
        DataError: They are empty, too many, of another kind, cut short, or an image of too many pixels.
    """
    shown = f"{name!r} " if name else ""
    if not data:
        raise DataError(f"{shown}is empty".strip(), hint="check where it comes from: a widget is empty until something is chosen")
    if limit is not None and len(data) > limit:
        raise _too_large(shown, len(data), kind, limit)
    found = sniffed(data)
    told = mime or mimetypes.guess_type(name)[0] or ""
    actual = found or ("" if kind != "file" else told or "application/octet-stream")
    allowed = {"image": IMAGES, "audio": SOUNDS}.get(kind)
    if kind == "image" and actual.startswith("image/") and actual not in IMAGES and _decoders:
        return replace(_decoders[0](data), name=name)
    if allowed is not None and actual not in allowed:
        what = actual or f"none that is known (it begins {data[:8]!r})"
        readable = ", ".join(sorted(one.partition("/")[2] for one in allowed))
        raise DataError(f"{shown}is no {kind} that models read: its type is {what}", hint=f"models read {readable}")
    if _is_cut_short(data, actual):
        raise DataError(f"{shown}did not come whole: the end of a {actual} is missing", hint="get it again")
    size = size_of(data) if kind == "image" else None
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise DataError(
            f"{shown}has {size[0]} by {size[1]} pixels, more than {MOST_PIXELS / 1e6:.0f} million", hint="make it smaller first"
        )
    return Medium(kind, actual, data, name=name)


def _is_cut_short(data: bytes, mime: str) -> bool:
    end = _ENDS.get(mime)
    if end is not None:
        return end not in data[-_TAIL:]
    length = int.from_bytes(data[4:8], "little") if data[:4] == b"RIFF" else 0  # WAV and WebP say theirs
    return length < _ENDLESS and length + 8 > len(data) + _SLACK


def sniffed(data: bytes) -> str:
    """Return the MIME type that the first bytes tell, or an empty string."""
    for magic, mime in _MAGIC:
        if data.startswith(magic):
            return mime
    if data[:4] == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp"}.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return (
            "image/heic" if data[8:12] in (b"heic", b"heix", b"mif1") else "image/avif" if data[8:12] == b"avif" else "audio/mp4"
        )
    return "audio/mpeg" if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 else ""  # noqa: PLR2004 - MPEG's frame mark


def wav_of(samples: Any, rate: Any) -> bytes:
    """Return samples as a WAV file of 16 bits: numbers from -1 to 1, or 16-bit integers; one column a channel.

    Raises:
        DataError: They are no samples.
    """
    import numpy as np

    found = np.asarray(samples)
    fits = found.ndim in (1, 2) and found.size and (found.dtype.kind == "f" or found.dtype == np.int16)
    if not fits or isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate < 1:
        raise DataError(
            f"cannot make a sound of an array of shape {found.shape}, type {found.dtype}, at a rate of {rate!r}",
            hint="give numbers from -1 to 1 or int16, one column a channel, and the rate, e.g. (samples, 16000)",
        )
    if found.ndim == 2 and found.shape[1] > _MOST_CHANNELS:  # noqa: PLR2004 - rows and columns
        raise DataError(
            f"a sound of {found.shape[1]} channels, from an array of shape {found.shape}",
            hint="give one column a channel: samples.T, where each channel is a row",
        )
    if found.dtype.kind == "f" and not np.abs(found).max() <= _LOUDEST:  # nor not-a-number
        raise DataError(
            f"a sound's numbers go from {found.min():g} to {found.max():g}", hint="scale them to -1 to 1, or give 16-bit integers"
        )
    if found.dtype.kind == "f":
        found = (np.clip(found, -1, 1) * 32767).astype(np.int16)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1 if found.ndim == 1 else found.shape[1])
        file.setsampwidth(2)
        file.setframerate(int(rate))
        file.writeframes(found.astype("<i2").tobytes())
    return out.getvalue()


def _of_text(text: str, kind: str, paths: bool, limit: int) -> Medium:  # noqa: FBT001 - between two functions
    if text.startswith("data:"):
        head = _DATA.match(text)
        if head is None:
            raise DataError(f"{text[:40]!r} is no data: address", hint="write data:TYPE;base64,…")
        body = text[head.end() :]
        try:
            data = base64.b64decode(body, validate=True) if head[3] else unquote_to_bytes(body)
        except ValueError:
            raise DataError(f"{text[:40]!r}… holds no base64", hint="encode the bytes with base64.b64encode") from None
        return of_bytes(data, kind, mime=head[1] or "", limit=limit)
    if text.startswith(_WEB):
        path = urlsplit(text).path
        return Medium(kind, mimetypes.guess_type(path)[0] or "", url=text, name=PurePosixPath(path).name)
    if not text:
        raise DataError("an empty text is no path", hint=f"give a path, an address, or what dx.{kind}(…) returns")
    if paths:
        return _of_file(Path(text).expanduser(), kind, limit)
    raise DataError(
        f"{text[:60]!r} is no web or data: address, and a text between steps is not read as a path",
        hint=f"give pathlib.Path(…) or dx.{kind}(…)",
    )


def _of_file(path: Path, kind: str, limit: int) -> Medium:
    try:
        size = path.stat().st_size
        if size > limit:
            raise _too_large(f"{path.name!r} ", size, kind, limit)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r}: {error.strerror or error}", hint="check the path, and that you may read it") from None
    return of_bytes(data, kind, name=path.name, limit=limit)


def _too_large(shown: str, size: int, kind: str, limit: int) -> DataError:
    smaller = "make it smaller, e.g. dx.image(…, max_px=1500)" if kind == "image" else "cut it, or give its web address"
    return DataError(f"{shown}is {size / 1e6:.1f} MB; {_a(kind)} may have {limit / 1e6:.1f} MB", hint=smaller)


def _upload(source: Any) -> Any:
    """Return content, name and type of what an upload or webcam widget gave, or None if it is none."""
    if hasattr(source, "comm") and hasattr(source, "value"):  # a widget itself
        source = source.value
        if isinstance(source, bytes | bytearray | memoryview):
            return bytes(source), "", ""
    if isinstance(source, list | tuple) and len(source) == 1 and isinstance(source[0], Mapping):
        source = source[0]
    if (
        isinstance(source, list | tuple)
        and len(source) > 1
        and all(isinstance(one, Mapping) and "content" in one for one in source)
    ):
        raise DataError(f"an upload of {len(source)} files, where one is taken", hint="give one of them, e.g. upload.value[0]")
    if isinstance(source, tuple | list) and not len(source):
        return b"", "", ""
    if isinstance(source, Mapping) and "content" in source:
        return bytes(source["content"]), str(source.get("name") or ""), str(source.get("type") or "")
    if isinstance(source, Mapping) and isinstance(source.get("bytes"), bytes):  # as datasets hold images and sounds
        return source["bytes"], PurePosixPath(str(source.get("path") or "")).name, ""
    return source if isinstance(source, Medium) else None


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aei" else f"a {kind}"
