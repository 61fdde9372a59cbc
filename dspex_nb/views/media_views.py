"""Images as thumbnails, sounds as players, files as labels, small enough for a saved notebook.

Only what the value itself holds is shown: an address, which a model may have written, is told and never loaded.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import re
from collections.abc import Callable, Sequence
from typing import Any

from dspex_nb.decoding import is_small, thumbnail
from dspex_nb.errors import DSPexError
from dspex_nb.views.markup import FAINT, LINE, Html, chip, join, muted, tag
from dspex_nb.views.media_info import MediaInfo, media_info

THUMBNAIL_PX = 240
MOST_BYTES = 60_000
"""What one medium may add to a notebook."""
_IMAGE = re.compile(r"image/(png|jpeg|gif|webp)")
_SOUND = re.compile(r"audio/[\w.+-]+")
_EMBEDDED = MOST_BYTES // 4  # so small that a thumbnail would save little
_REMEMBERED = 200  # thumbnails, of about 10 kB each
_made: dict[int, tuple[str, str]] = {}
_makers: list[Callable[[Sequence[bytes]], list[bytes | str]]] = []


def provide_thumbnails(make: Callable[[Sequence[bytes]], list[bytes | str]]) -> None:
    """Set who makes thumbnails of images that are not small: JPEGs, or in words why there is none; else they are made here."""
    _makers[:] = [make]


def media_html(value: Any) -> Html | None:
    """Draw a medium, or a list of them; None for any other value."""
    if isinstance(value, list | tuple) and value:
        infos = [info for one in value if (info := media_info(one)) is not None]
        return join(*_drawn(infos)) if len(infos) == len(value) else None
    info = media_info(value)
    return None if info is None else join(*_drawn([info]))


def _drawn(infos: list[MediaInfo]) -> list[Html]:
    shown = _thumbnails(
        [info if info.kind == "image" and info.size_bytes and _IMAGE.fullmatch(info.mime) else None for info in infos]
    )
    return [_one(info, *found) for info, found in zip(infos, shown, strict=True)]


def _one(info: MediaInfo, shown: str, why: str) -> Html:
    if shown:
        look = f"max-width: {THUMBNAIL_PX}px; max-height: {THUMBNAIL_PX}px; border: 1px solid {LINE}; background: {FAINT};"
        picture = tag("img", src=shown, alt=info.label, style=f"{look} border-radius: 4px; display: block;")
        return tag("div", picture, muted(info.label), style="display: inline-block; margin: 2px 10px 4px 0; font-size: 12px;")
    if info.kind == "audio" and info.size_bytes and _SOUND.fullmatch(info.mime) and info.size_bytes <= MOST_BYTES:
        player = tag("audio", controls=True, src=info.data_url, style="height: 32px; max-width: 100%;")
        return tag("div", player, tag("div", muted(info.label), style="font-size: 12px;"), style="margin: 2px 0 4px 0;")
    if why:
        return join(chip(info.label), muted(f" no thumbnail: {why}"))
    whole = info.url or info.size_bytes <= MOST_BYTES or info.kind == "file"
    return join(chip(info.label), "" if whole else muted(" not kept in the notebook: too large"))


def _thumbnails(infos: list[MediaInfo | None]) -> list[tuple[str, str]]:
    """Return images small enough to keep, as data: addresses, all made at once; an empty address with why there is none."""
    found: list[tuple[str, str]] = [("", "")] * len(infos)
    there = importlib.util.find_spec("PIL") is not None
    asked: dict[int, bytes] = {}
    keys: dict[int, int] = {}
    for at, info in enumerate(infos):
        if info is None:
            continue
        if info.size_bytes <= (_EMBEDDED if there else MOST_BYTES):
            found[at] = (info.data_url, "")
        elif there:
            keys[at] = info.key
            if (known := _made.get(keys[at])) is not None:
                found[at] = known
                continue
            try:
                asked[at] = info.data
            except binascii.Error:
                found[at] = ("", "its base64 is damaged")
    small = {at: _made_here(raw) for at, raw in asked.items() if not _makers or is_small(raw)}
    large = [at for at in asked if at not in small]
    made = dict(zip(large, _makers[0]([asked[at] for at in large]) if large else (), strict=True))
    for at, one in {**small, **made}.items():
        found[at] = _kept(one)
        if isinstance(one, bytes):  # why there is none may be over when it is asked for again
            _remember(keys[at], found[at])
    return found


def _remember(key: int, made: tuple[str, str]) -> None:
    """Keep what was made: a view that lives is drawn many times a second."""
    while len(_made) >= _REMEMBERED:
        _made.pop(next(iter(_made)), None)
    _made[key] = made


def _made_here(raw: bytes) -> bytes | str:
    try:
        return thumbnail(raw, THUMBNAIL_PX)
    except DSPexError as error:
        return error.message


def _kept(made: bytes | str) -> tuple[str, str]:
    if isinstance(made, str):
        return "", made
    return (
        (f"data:image/jpeg;base64,{base64.b64encode(made).decode()}", "") if len(made) <= MOST_BYTES else ("", "it is too large")
    )
