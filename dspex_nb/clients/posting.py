"""The HTTP wire: posts a dialect's requests and hands back what it reads; the same for every provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from dspex_nb.clients.dialects import Dialect, Reader
from dspex_nb.clients.faults import error_of, invalid_response
from dspex_nb.clients.settings import secret_words
from dspex_nb.errors import LMAuthError, LMError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport import Reply, apost, astream_lines, basic_auth, post, stream_lines, without_userinfo


class HTTPWire:
    """Posts to one model of one API.

    Args:
        dialect: How that API says it.
        base: Its base URL, or a callable that gives it when first needed (the embedded server starts then).
        model: The model's name there.
        key: Returns the API key or None; asked at every call, so that a key set later is found.
        key_env: Name of the variable the user should set, if a key is needed.
        headers: Further headers.
        extra: Fields added to every body.
    """

    def __init__(
        self, dialect: Dialect, base: str | Callable[[], str], model: str, *, key: Callable[[], str | None] = lambda: None,
        key_env: str = "", headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._dialect, self._model, self._key, self._key_env = dialect, model, key, key_env
        self._address = base if isinstance(base, str) else ""
        self._base = without_userinfo(base) if isinstance(base, str) else base
        self._given = {**basic_auth(self._address), **(headers or {})}
        self._headers = {"Content-Type": "application/json", "User-Agent": "dspex_nb", **self._given}
        self._extra = dict(extra or {})
        self.native_n = dialect.native_n

    @property
    def url(self) -> str:
        """The base URL; the embedded server starts if it has not."""
        return self._base if isinstance(self._base, str) else self._base()

    def call(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask and wait in this thread."""
        url, headers, content = self._written(self.url, body, streamed=False)
        return self._answer(url, post(url, headers, content, timeout_s=timeout_s, cancel=cancel))

    async def acall(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask and wait on the running loop."""
        url, headers, content = self._written(await self._abase(), body, streamed=False)
        return self._answer(url, await apost(url, headers, content, timeout_s=timeout_s, cancel=cancel))

    def stream(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Iterator[Mapping[str, Any]]:
        """Ask and yield the chunks as they come."""
        url, headers, content = self._written(self.url, body, streamed=True)
        reader = self._dialect.reader()
        for line in stream_lines(url, headers, content, timeout_s=timeout_s, cancel=cancel):
            yield from self._pieces(url, reader, line)
            if reader.over:
                break
        self._check_whole(url, reader)

    async def astream(
        self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Ask and yield the chunks on the running loop."""
        url, headers, content = self._written(await self._abase(), body, streamed=True)
        reader = self._dialect.reader()
        # Closed here and now, as a generator left to the collector holds its socket until the loop turns.
        async with aclosing(astream_lines(url, headers, content, timeout_s=timeout_s, cancel=cancel)) as lines:
            async for line in lines:
                for piece in self._pieces(url, reader, line):
                    yield piece
                if reader.over:
                    break
        self._check_whole(url, reader)

    def warm_up(self) -> None:
        """Start the embedded server; others are ready or not."""
        if callable(self._base):
            self._base()

    def missing_key(self) -> str:
        """Return the variable that should hold the key and does not; a server on plain http is taken to need none."""
        needed = isinstance(self._base, str) and self._base.startswith("https://") and self._key() is None
        return self._key_env if needed else ""

    def close(self) -> None:
        """Nothing is held: connections belong to the transport."""

    async def _abase(self) -> str:
        if isinstance(self._base, str):
            return self._base
        import asyncio

        return await asyncio.to_thread(self._base)  # loading the model must not hold the loop

    def _written(self, base: str, body: Mapping[str, Any], *, streamed: bool) -> tuple[str, dict[str, str], bytes]:
        key = self._key()
        if key is None and (missing := self.missing_key()):
            raise LMAuthError(
                f"no API key for {self._model}: the variable {missing} is not set",
                hint=f"run os.environ['{missing}'] = getpass.getpass(), or pass api_key= to the LM",
                model=self._model,
            )
        written = self._dialect.write(self._model, body, streamed=streamed)
        content = _written_json({**written.body, **self._extra})
        headers = {**self._headers, **written.headers, **self._given, **(self._dialect.auth(key) if key else {})}
        return f"{base}{written.path}", headers, content

    def _answer(self, url: str, reply: Reply) -> Mapping[str, Any]:
        if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
            raise self._error(url, reply)
        try:
            data = _read_json(reply.body)
            status = self._dialect.failure(data)
            answer = self._dialect.answer(data) if status is None else {}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            text = reply.body[:2000].decode("utf-8", "replace")
            what = f"the answer is not {self._dialect.form}"
            raise invalid_response(url, text, self._model, what, self.secrets()) from error
        if status is not None:
            raise self._error(url, Reply(status, reply.headers, reply.body))
        return answer

    def _pieces(self, url: str, reader: Reader, line: bytes | Reply) -> Iterator[Mapping[str, Any]]:
        if isinstance(line, Reply):
            raise self._error(url, line)
        if line[:1] in {b"<", b"{"}:
            text = line[:2000].decode("utf-8", "replace")
            raise invalid_response(url, text, self._model, "the answer is not a stream", self.secrets())
        if not line.startswith(b"data:"):
            return  # blank lines, comments and event names
        if line[5:].strip() == b"[DONE]":
            reader.done = reader.over = True
            return
        try:
            event = _read_json(line[5:])
            status = self._dialect.failure(event)
            pieces = tuple(reader.read(event)) if status is None else ()
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            text = line[:2000].decode("utf-8", "replace")
            what = f"the stream holds a line that is not in the form of {self._dialect.name}"
            raise invalid_response(url, text, self._model, what, self.secrets()) from error
        if status is not None:
            raise self._error(url, Reply(status, {}, line[5:]))
        yield from pieces

    def _check_whole(self, url: str, reader: Reader) -> None:
        if not reader.done:
            raise invalid_response(url, "", self._model, "the stream ended before the answer did", self.secrets())

    def _error(self, url: str, reply: Reply) -> LMError:
        status = self._dialect.refused(reply.status, reply.body[:20_000].decode("utf-8", "replace"))
        return error_of(url, Reply(status, reply.headers, reply.body), self._model, self._key_env, self.secrets())

    def secrets(self) -> tuple[str, ...]:
        """Return what no text may show."""
        return secret_words(self._key(), self._given, self._address)


def _written_json(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)  # a tenth of json's time on long prompts
    except TypeError:  # a lone surrogate, a number of more than 64 bits, a key that is no text
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _read_json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:  # NaN and infinity, which some servers write; or no JSON at all
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deep") from None
