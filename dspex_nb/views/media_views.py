"""Images as thumbnails, sounds as players, files as labels, small enough for a saved notebook.

Only what the value itself holds is shown: an address, which a model may have written, is told and never loaded.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from typing import Any

from dspex_nb.views.markup import FAINT, LINE, Html, chip, join, muted, tag
from dspex_nb.views.media_info import MediaInfo, media_info

THUMBNAIL_PX = 240
MOST_BYTES = 60_000
"""What one medium may add to a notebook."""
_IMAGE = re.compile(r"image/(png|jpeg|gif|webp)")
_SOUND = re.compile(r"audio/[\w.+-]+")
_MOST_PIXELS = 50_000_000


def media_html(value: Any) -> Html | None:
    """Draw a medium, or a list of them; None for any other value."""
    if isinstance(value, list | tuple) and value:
        infos = [media_info(one) for one in value]
        return join(*(_drawn(one) for one in infos if one is not None)) if all(infos) else None
    info = media_info(value)
    return None if info is None else _drawn(info)


def _drawn(info: MediaInfo) -> Html:
    if info.kind == "image" and info.base64 and _IMAGE.fullmatch(info.mime):
        shown = _thumbnail(info)
        if shown:
            look = f"max-width: {THUMBNAIL_PX}px; max-height: {THUMBNAIL_PX}px; border: 1px solid {LINE}; background: {FAINT};"
            picture = tag("img", src=shown, alt=info.label, style=f"{look} border-radius: 4px; display: block;")
            return tag("div", picture, muted(info.label), style="display: inline-block; margin: 2px 10px 4px 0; font-size: 12px;")
    if info.kind == "audio" and info.base64 and _SOUND.fullmatch(info.mime) and info.size_bytes <= MOST_BYTES:
        player = tag("audio", controls=True, src=f"data:{info.mime};base64,{info.base64}", style="height: 32px; max-width: 100%;")
        return tag("div", player, tag("div", muted(info.label), style="font-size: 12px;"), style="margin: 2px 0 4px 0;")
    note = (
        "" if info.url or info.size_bytes <= MOST_BYTES or info.kind == "file" else muted(" not kept in the notebook: too large")
    )
    return join(chip(info.label), note)


def _thumbnail(info: MediaInfo) -> str:
    """Return an image small enough to keep, as a data: address; an empty text where that needs Pillow, which is not there."""
    if info.size_bytes <= MOST_BYTES // 4:
        return f"data:{info.mime};base64,{info.base64}"
    try:
        from PIL import Image
    except ImportError:
        return f"data:{info.mime};base64,{info.base64}" if info.size_bytes <= MOST_BYTES else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a bomb's warning is reason enough
            opened = Image.open(io.BytesIO(base64.b64decode(info.base64)))
            if opened.width * opened.height > _MOST_PIXELS:
                return ""
            opened.draft("RGB", (THUMBNAIL_PX, THUMBNAIL_PX))
            opened.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
            out = io.BytesIO()
            opened.convert("RGB").save(out, "JPEG", quality=80)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError, binascii.Error):
        return ""
    small = out.getvalue()
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}" if len(small) <= MOST_BYTES else ""
