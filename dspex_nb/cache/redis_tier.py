"""The shared tier: a Redis or Valkey server that kernels on several machines have in common.

    dspex:lm:KEY       {"v": 1, "key": KEY, "value": {…}}   an LM's response, JSON; the server ends it after its time
    dspex:step:KEY     signature and bytes                  a step's result, see `signing.py`
    dspex:lease:KEY    a token                              who has that request under way; over after 15 s unless renewed

A server that is gone, refuses or hangs costs one short wait; then it is left alone for some seconds, longer each time, and
the local tiers serve on. That is said once an outage.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from dspex_nb.errors import CacheError, MissingDependencyError
from dspex_nb.leases.beating import Heartbeat

if TYPE_CHECKING:
    import redis

T = TypeVar("T")
VERSION = 1
LEASE_S = 15.0
_TIMEOUT_S = 1.0
_FIRST_REST_S, _LONGEST_REST_S = 2.0, 30.0
_FORMS = "redis://[[user]:password@]host[:port][/db], rediss://… (TLS) or unix:///path"
_GIVE_BACK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end"


class RedisTier:
    """One such server.

    Args:
        url: Where it is; a password in it is never shown.

    Attributes:
        where: The server without user and password.
        faults: Entries that were none of ours, and attempts that failed.

    Raises:
        CacheError: The URL names no server.
        MissingDependencyError: The package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.where, self._words = _checked(url)
        self._url = url
        self.faults = 0
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None
        self._pid = os.getpid()
        self._rest_until, self._rest_s = 0.0, _FIRST_REST_S
        self.down = ""
        self._beat = self._new_beat()

    def load(self, key: str) -> tuple[dict[str, Any], float | None] | None:
        """Return an LM response and when it expires by this machine's clock, or None."""

        def work(client: redis.Redis) -> tuple[bytes | None, int]:
            both = client.pipeline(transaction=False)
            both.get(f"dspex:lm:{key}")
            both.pttl(f"dspex:lm:{key}")
            content, left_ms = both.execute()
            return content, left_ms

        found = self._do(work)
        if found is None or found[0] is None:
            return None
        try:
            item = json.loads(found[0])
            if item["v"] != VERSION or item["key"] != key or not isinstance(item["value"], dict):
                raise ValueError("another's item")  # noqa: TRY301 - treated as the parse errors are
        except (ValueError, KeyError, TypeError, RecursionError):
            self.faults += 1
            return None
        return item["value"], time.time() + found[1] / 1000 if found[1] > 0 else None

    def dump(self, key: str, value: Mapping[str, Any], ttl_s: float | None) -> None:
        """Write an LM response."""
        content = json.dumps({"v": VERSION, "key": key, "value": value}, separators=(",", ":")).encode()
        self._do(lambda client: client.set(f"dspex:lm:{key}", content, px=_ms(ttl_s)))

    def load_blob(self, key: str) -> bytes | None:
        """Return the bytes kept of a step, or None."""
        found: bytes | None = self._do(lambda client: client.get(f"dspex:step:{key}"))
        return found

    def dump_blob(self, key: str, content: bytes, ttl_s: float | None) -> None:
        """Keep bytes of a step."""
        self._do(lambda client: client.set(f"dspex:step:{key}", content, px=_ms(ttl_s)))

    def count(self) -> int:
        """Return how many LM responses the server holds; asks for all names."""
        return self._do(lambda client: sum(1 for _ in client.scan_iter("dspex:lm:*", count=5000))) or 0

    def clear(self) -> None:
        """Delete every LM response and step result on the server, whoever put it there."""

        def work(client: redis.Redis) -> None:
            for pattern in ("dspex:lm:*", "dspex:step:*"):
                names: list[Any] = []
                for name in client.scan_iter(pattern, count=5000):
                    names.append(name)
                    if len(names) == 1000:  # noqa: PLR2004 - one command's worth
                        client.delete(*names)
                        names.clear()
                if names:
                    client.delete(*names)

        self._do(work)

    def take(self, name: str) -> tuple[str, str] | None:
        """Return a lease, None while somebody has it; a server that does not answer gives one that nobody sees."""
        lease = (f"dspex:lease:{name}", uuid.uuid4().hex)
        got = self._do(lambda client: bool(client.set(lease[0], lease[1], nx=True, px=_ms(LEASE_S))))
        if got:
            self._beat.keep(lease)
        return None if got is False else lease

    def give_back(self, lease: tuple[str, str]) -> None:
        """Let others have it; one that has passed to somebody else meanwhile is left to them."""
        self._beat.drop(lease)
        self._do(lambda client: client.eval(_GIVE_BACK, 1, *lease))

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def __repr__(self) -> str:
        return f"RedisTier({self.where!r})"

    def _new_beat(self) -> Heartbeat:
        return Heartbeat("dspex-redis-leases", LEASE_S / 3, self._renew)

    def _renew(self) -> None:
        for lease in self._beat.tokens():
            self._do(lambda client, lease=lease: client.eval(_RENEW, 1, *lease, _ms(LEASE_S)))  # type: ignore[misc]

    def _do(self, work: Callable[[redis.Redis], T]) -> T | None:
        """Return what the server answers; None where it does not."""
        import redis

        if time.monotonic() < self._rest_until:
            return None
        try:
            client = self._connected()
            try:
                found = work(client)
            except redis.ConnectionError:  # the server was started anew since the last command: another connection may do
                found = work(client)
        except (redis.RedisError, OSError, TypeError, ValueError, RecursionError) as error:
            self._failed(error, unreachable=isinstance(error, redis.RedisError | OSError))
            return None
        if self.down:
            self.down, self._rest_s = "", _FIRST_REST_S
        return found

    def _connected(self) -> redis.Redis:
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                if self._pid != os.getpid():  # after a fork the leases are the parent's
                    self._beat, self._pid = self._new_beat(), os.getpid()
                self._client = _client(self._url)
            return self._client

    def _failed(self, error: Exception, *, unreachable: bool) -> None:
        reason = f"{type(error).__name__}: {error}"
        for word in self._words:
            reason = reason.replace(word, "***")
        with self._lock:
            self.faults += 1
            first, self.down = not self.down, reason.rstrip(". ")[:300]
            if unreachable:
                self._rest_until = time.monotonic() + self._rest_s
                self._rest_s = min(self._rest_s * 2, _LONGEST_REST_S)
        if first:
            warnings.warn(
                f"the shared cache {self.where} does not answer: {self.down}. Work goes on with the local cache, and the "
                "server is tried again from time to time; until then answers received here are not shared.",
                RuntimeWarning,
                stacklevel=6,
            )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(math.ceil(seconds * 1000), 1)


def _client(url: str) -> redis.Redis:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0), client_name="dspex_nb"
    )


def _checked(url: str) -> tuple[str, tuple[str, ...]]:
    """Return a URL without user and password, and the words of it that nobody may see."""
    hint = f"write {_FORMS}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, TypeError, AttributeError):
        raise CacheError("redis_url is no URL of a Redis or Valkey server", hint=hint) from None
    if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.scheme == "unix"):
        raise CacheError("redis_url is no URL of a Redis or Valkey server", hint=hint)
    try:
        import redis  # noqa: F401
    except ImportError:
        raise MissingDependencyError("a shared cache needs the package redis", hint="pip install 'dspex_nb[redis]'") from None
    secrets = {word for word in (parts.password, unquote(parts.password or ""), parts.query) if word}
    host = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{port or 6379}{parts.path}"
    return f"{parts.scheme}://{host}", tuple(sorted(secrets, key=len, reverse=True))


def has_secret(url: str) -> bool:
    """Say whether a URL holds a password, or options that may hold one."""
    return bool(_checked(url)[1])
