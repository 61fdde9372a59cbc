"""`fetch`: a page or a file from the web, redirects followed, its size limited."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from dspex_nb.errors import DataError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport.blocking import get
from dspex_nb.transport.redaction import basic_auth, host_of, without_userinfo

_MOVED = frozenset({301, 302, 303, 307, 308})
_REDIRECTS = 5
_OK = 200
_PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's word for the frame around the data


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched: its last address (without any password), its type without parameters, charset and bytes."""

    url: str
    content_type: str
    charset: str
    body: bytes


def fetch(url: str, *, timeout_s: float = 30.0, max_bytes: int = 50_000_000, cancel: CancelToken | None = None) -> Fetched:
    """Fetch what is at an http or https address.

    Raises:
        DataError: Another kind of address, a status other than 200, too many redirects, more than `max_bytes`, or packed in a
            way that is not known.
        LMConnectionError, LMTimeoutError: The server cannot be reached, or is too slow.
    """
    where = url
    for _ in range(_REDIRECTS + 1):
        if urlsplit(where).scheme not in ("http", "https"):
            raise DataError(f"{without_userinfo(where)!r:.200} is no web address", hint="give one that begins with https://")
        headers = {"User-Agent": "dspex_nb", "Accept": "*/*", **basic_auth(where)}
        reply = get(without_userinfo(where), headers=headers, timeout_s=timeout_s, cancel=cancel)
        if reply.status not in _MOVED or "location" not in reply.headers:
            break
        where = urljoin(where, reply.headers["location"])
    else:
        raise DataError(
            f"{host_of(url)} sends from one address to the next without end", hint="open it in a browser, give its last"
        )
    shown = without_userinfo(where)
    if reply.status != _OK:
        raise DataError(f"{shown:.200} answered {reply.status}", hint="open it in a browser: it may be gone, or need a login")
    body = _unpacked(reply.body, reply.headers.get("content-encoding", ""), shown, max_bytes)
    if len(body) > max_bytes:
        size = f"{len(body) / 1e6:.1f} MB" if body is reply.body else "larger when unpacked"
        raise DataError(f"{shown:.200} is {size}, the limit {max_bytes / 1e6:.1f} MB", hint="raise max_bytes=")
    kind, _, rest = reply.headers.get("content-type", "").partition(";")
    charset = next((part.partition("=")[2].strip(' "') for part in rest.split(";") if "charset" in part.lower()), "")
    return Fetched(shown, kind.strip().lower(), charset, body)


def _unpacked(body: bytes, encoding: str, shown: str, max_bytes: int) -> bytes:
    """Return what a server packed, though it was not asked to: files that are stored packed are sent so.

    At most one byte more than `max_bytes` is unpacked.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    try:
        opened = zlib.decompressobj(_PACKED[name])
        found = opened.decompress(body, max_bytes + 1)
    except (KeyError, zlib.error):
        raise DataError(
            f"{shown:.200} is packed as {encoding!r:.40}, which cannot be read", hint="download it and give the file"
        ) from None
    if not opened.eof and len(found) <= max_bytes:
        raise DataError(f"{shown:.200} did not come whole", hint="run again, or download it and give the file")
    return found
