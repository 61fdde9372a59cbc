"""Decoding images, in a worker: Pillow reads what it can and writes what models take, and thumbnails."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspex_nb.errors import DataError, MissingDependencyError

MOST_PIXELS = 100_000_000
SMALL_PIXELS = 256 * 256
_QUALITY, _PREVIEW_QUALITY = 88, 80
_SMALL_BYTES = 4 * SMALL_PIXELS
_PLAIN = ("PNG", "JPEG", "GIF")  # whose heads Pillow reads in Python


def rewritten(raw: Any, max_px: int | None = None) -> tuple[str, bytes]:
    """Return an image's MIME type and bytes, written anew: PNG, or JPEG where it was one; no side longer than `max_px`.

    Args:
        raw: A file's bytes, an array, or mode, size and bytes of a PIL image.
        max_px: Longest side.

    Raises:
        DataError: It is no image, is damaged, or has too many pixels.
        MissingDependencyError: Pillow is not installed.
    """
    with _opened(raw) as opened:
        from PIL import ImageOps

        was_jpeg = opened.format == "JPEG"
        found = ImageOps.exif_transpose(opened)
        if max_px and max(found.size) > max_px:
            found.thumbnail((max_px, max_px))
        out = io.BytesIO()
        if was_jpeg:
            found.convert("RGB").save(out, "JPEG", quality=_QUALITY)
        else:
            fitting = found if found.mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16") else found.convert("RGB")
            fitting.save(out, "PNG")
    return ("image/jpeg" if was_jpeg else "image/png"), out.getvalue()


def thumbnail(raw: bytes, px: int) -> bytes:
    """Return an image as a JPEG, no side longer than `px`.

    Raises:
        DataError: It is no image, is damaged, or has too many pixels.
        MissingDependencyError: Pillow is not installed.
    """
    with _opened(raw) as opened:
        opened.draft("RGB", (px, px))
        opened.thumbnail((px, px))
        out = io.BytesIO()
        opened.convert("RGB").save(out, "JPEG", quality=_PREVIEW_QUALITY)
    return out.getvalue()


def is_small(raw: bytes) -> bool:
    """Say whether an image may be decoded in any process: its head says so few pixels that a worker's start takes longer."""
    if len(raw) > _SMALL_BYTES:
        return False
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height = Image.open(io.BytesIO(raw), formats=_PLAIN).size
    except Exception:  # noqa: BLE001 - whatever is wrong with it, a worker tells
        return False
    return bool(width * height <= SMALL_PIXELS)


@contextmanager
def _opened(raw: Any) -> Iterator[Any]:
    """Give an image opened by Pillow, which keeps quiet; what it cannot read then is told in our words."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "decoding images needs the package 'pillow'", hint="pip install 'dspex_nb[media]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its size: told in our words
        Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        try:
            opened = _image(raw, Image)
            if opened.width * opened.height > MOST_PIXELS:
                raise _too_many(opened.size)
            yield opened
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"the image is damaged: {error}", hint="open it in a viewer and save it again") from None


def _image(raw: Any, image: Any) -> Any:
    if isinstance(raw, bytes):
        try:
            return image.open(io.BytesIO(raw))
        except image.DecompressionBombError:
            raise _too_many(None) from None
        except OSError:
            raise DataError(f"no image that can be read: it begins {raw[:8]!r}", hint="give e.g. PNG or JPEG") from None
    if isinstance(raw, tuple):
        mode, size, data = raw
        return image.frombytes(mode, size, data)
    return image.fromarray(_as_bytes(raw))


def _as_bytes(array: Any) -> Any:
    """Return an array of 0 to 255 with one, three or four channels.

    Raises:
        DataError: It is none.
    """
    import numpy as np

    found = np.asarray(array)
    if found.ndim == 3 and found.shape[2] == 1:  # noqa: PLR2004 - rows, columns, channels
        found = found[:, :, 0]
    fits = found.size and (found.ndim == 2 or (found.ndim == 3 and found.shape[2] in (3, 4)))  # noqa: PLR2004
    if found.dtype == bool:
        return found.astype(np.uint8) * 255
    if not fits or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise DataError(
            f"cannot make an image of an array of shape {found.shape}, type {found.dtype}",
            hint="give (rows, columns), or with 3 or 4 channels; 0 to 255 or 0.0 to 1.0",
        )
    top = 1.0 if found.dtype.kind == "f" and found.max() <= 1.0 else 255.0
    if found.min() < 0 or found.max() > 255:  # noqa: PLR2004 - a byte
        raise DataError(
            f"an image's numbers go from {found.min():g} to {found.max():g}", hint="scale them to 0 to 255 or 0.0 to 1.0"
        )
    return (found * 255).round().astype(np.uint8) if top == 1.0 else found.astype(np.uint8)


def _too_many(size: Any) -> DataError:
    told = f"{size[0]} by {size[1]} pixels" if size else "too many pixels"
    return DataError(f"the image has {told}, more than {MOST_PIXELS / 1e6:.0f} million", hint="make it smaller first")
