"""`dx.image`, `dx.audio`, `dx.file`: media for a signature's fields, decoded and made smaller in the `multimodal` pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspex_nb.api.decoders import decode_apart
from dspex_nb.decoding import rewritten
from dspex_nb.errors import DataError
from dspex_nb.signatures.media import IMAGES, LIMITS, Medium, is_pixels, medium_of, of_bytes, provide_decoder, sniffed

_MOST_PX = 2048
_READ = 200_000_000


def image(source: Any, *, max_px: int | None = None, download: bool = False, timeout_s: float = 30.0) -> Any:
    """Return an image for a field of type `Image`.

    What models read (PNG, JPEG, GIF, WebP) is sent as it is; a PIL image, an array or another format is decoded and written as
    PNG or JPEG in the `multimodal` pool, where a bad file can harm nothing.

    Args:
        source: A path, a web or data: address, bytes, a PIL image, an array (rows, columns, channels; 0 to 255 or 0.0 to 1.0), or
            what an upload or webcam widget holds.
        max_px: Longest side; a larger image is made smaller.
        download: Whether a web address is fetched here and sent as bytes; else the provider fetches it.
        timeout_s: Seconds to wait for it.

    Returns:
        A `dspy.Image`, which DSPy programs take too.

    Raises:
        DataError: No image, or one that is too large or damaged.
        MissingDependencyError: Decoding needs Pillow; the error ends with the command.
    """
    if max_px is not None and (isinstance(max_px, bool) or not isinstance(max_px, int) or max_px < 1):
        raise DataError(f"max_px={max_px!r}: expected the longest side in pixels", hint="write e.g. max_px=1500")
    if is_pixels(source):
        return _as_dspy(_decoded(_raw(source), max_px or _MOST_PX))
    try:
        medium = medium_of(source, "image", max_bytes=_READ if max_px else None)
    except DataError:
        content = _content(source)
        told = "" if content is None or len(content) <= LIMITS["image"] else sniffed(content)
        if content is None or not told.startswith("image/") or told in IMAGES:
            raise
        medium = _decoded(content, max_px or _MOST_PX)  # of a kind that models do not read, and larger than they take
    if medium.url and (download or max_px):
        medium = _fetched(medium.url, "image", timeout_s)
    return _as_dspy(_decoded(medium.data, max_px) if max_px and medium.data else medium)


def audio(source: Any, *, rate: int | None = None, timeout_s: float = 30.0) -> Any:
    """Return a sound for a field of type `Audio`: a `dspy.Audio`.

    Args:
        source: A path, a web address (fetched), a data: address, bytes, an array of samples with `rate=`, or an upload.
        rate: Samples a second of an array.
        timeout_s: Seconds to wait for an address.

    Raises:
        DataError: No sound, or one that is too large.
    """
    given = (source, rate) if hasattr(source, "shape") else source
    medium = medium_of(given, "audio")
    return _as_dspy(_fetched(medium.url, "audio", timeout_s) if medium.url else medium)


def file(source: Any, *, name: str = "", timeout_s: float = 30.0) -> Any:
    """Return a file (a PDF, usually) for a field of type `File`: a `dspy.File`.

    Args:
        source: A path, a web address (fetched), a data: address, bytes, or an upload.
        name: What it is called, where the source does not say.
        timeout_s: Seconds to wait for an address.

    Raises:
        DataError: No file, or one that is too large or did not come whole.
    """
    medium = medium_of(source, "file")
    if medium.url:
        medium = _fetched(medium.url, "file", timeout_s)
    return _as_dspy(Medium("file", medium.mime, medium.data, name=name or medium.name))


def _as_dspy(medium: Medium) -> Any:
    from dspex_nb.bridge import as_dspy

    return as_dspy(medium)


def _fetched(url: str, kind: str, timeout_s: float) -> Medium:
    from dspex_nb.transport.fetching import fetch

    page = fetch(url, timeout_s=timeout_s, max_bytes=LIMITS[kind])
    return of_bytes(
        page.body, kind, name=page.url.rpartition("/")[2].partition("?")[0], mime=page.content_type, limit=LIMITS[kind]
    )


def _decoded(raw: Any, max_px: int | None) -> Medium:
    """Decode and write anew in the pool: a broken or hostile file ends there, not in the kernel."""
    mime, data = decode_apart(rewritten, raw, max_px, what="the image")
    return Medium("image", mime, data)


def _fitting(source: Any) -> Medium:
    """Decode what was given for a field: pixels, or bytes of a format that models do not read."""
    return _decoded(_raw(source), _MOST_PX)


provide_decoder(_fitting)


def _raw(source: Any) -> Any:
    """Return what crosses to the pool: a file's bytes, an image's pixels, or an array."""
    if isinstance(source, bytes):
        return source
    if hasattr(source, "convert"):
        content = _undecoded(source)
        if content is not None:
            return content
        plain = source if source.mode in ("RGB", "RGBA", "L") else source.convert("RGBA" if "A" in source.mode else "RGB")
        return plain.mode, plain.size, plain.tobytes()
    import numpy as np

    return np.asarray(source)


def _undecoded(image: Any) -> bytes | None:
    """Return the file behind a PIL image of which only the head was read: it is decoded in the pool, too."""
    file = getattr(image, "fp", None)
    try:
        if file is None or not getattr(image, "tile", None) or image.tell():
            return None
        at = file.tell()
        file.seek(0)
        content: bytes = file.read(_READ + 1)
        file.seek(at)
    except (OSError, ValueError, AttributeError):  # closed, or no file one can go back in
        return None
    return content if len(content) <= _READ else None


def _content(source: Any) -> bytes | None:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | Path) and not str(source).startswith(("data:", "http://", "https://")):
        try:
            path = Path(source).expanduser()
            return path.read_bytes() if path.stat().st_size <= _READ else None
        except OSError:
            return None
    return None


def webcam(width: int = 1280) -> Any:
    """Return a widget that takes a picture with the browser's camera: show it in one cell, use it in the next.

    `camera = dx.webcam()`, then `look(picture=camera)`; until a picture is taken it counts as empty.

    Args:
        width: Pixels asked of the camera.
    """
    from dspex_nb.widgets.webcam import Webcam

    return Webcam(width)
