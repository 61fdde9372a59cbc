"""Text from outside is shortened and stripped of secrets before it may appear in an error."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

_KEY_SHAPES = re.compile(
    r"(?i)\b(bearer\s+|(?:api[-_]?key|access[-_]?token|password|passwd|secret)[\"']?\s*[:=]\s*[\"']?)([^\s\"',}&)]+)"
    r"|\b(?:sk|pk|gsk|xai|AIza|hf)[-_][\w-]{8,}"
)
_USERINFO = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


def redact(text: str, secrets: Iterable[str] = (), *, limit: int = 300) -> str:
    """Return `text` on one line, at most `limit` characters, with secrets and whatever is shaped like a key as `***`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = _USERINFO.sub(r"\1***", text)
    text = _KEY_SHAPES.sub(lambda match: f"{match.group(1) or ''}***", text)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def without_userinfo(url: str) -> str:
    """Return a URL without user and password."""
    head, slashes, rest = url.partition("//")
    where, slash, path = rest.partition("/")
    return f"{head}{slashes}{where.rpartition('@')[2]}{slash}{path}" if slashes else url.rpartition("@")[2]


def shown_address(url: str) -> str:
    """Return a server's address without user, password and query."""
    return without_userinfo(url).split("?")[0]


def basic_auth(url: str) -> dict[str, str]:
    """Return the header that says a URL's user and password, or nothing where it has none."""
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    return {"Authorization": f"Basic {b64encode(unquote(user).encode()).decode()}"} if at else {}


def host_of(url: str) -> str:
    """Return `host:port` of a URL, without user, password, path or query."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"
