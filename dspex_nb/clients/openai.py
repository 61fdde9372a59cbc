"""OpenAI's chat completions over our transport; most servers speak it, the embedded one included."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from dspex_nb.clients.faults import error_of, invalid_response
from dspex_nb.errors import LMAuthError
from dspex_nb.scopes import CancelToken
from dspex_nb.transport import Reply, apost, astream_lines, post, stream_lines


class OpenAIWire:
    """Posts to a chat completions URL.

    Args:
        url: The URL, or a callable that gives it when first needed (the embedded server starts then).
        model: The model's name there.
        key: Returns the API key or None; asked at every call, so that a key set later is found.
        key_env: Name of the variable the user should set, if a key is needed.
        headers: Further headers.
        renames: Option names that this server spells otherwise.
        extra: Fields added to every body.
        native_n: The server takes `n`.
    """

    def __init__(
        self, url: str | Callable[[], str], model: str, *, key: Callable[[], str | None] = lambda: None, key_env: str = "",
        headers: Mapping[str, str] | None = None, renames: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None, native_n: bool = True,
    ) -> None:  # fmt: skip
        self._url, self._model, self._key, self._key_env = url, model, key, key_env
        self._headers = {"Content-Type": "application/json", "User-Agent": "dspex_nb", **(headers or {})}
        self._renames, self._extra = dict(renames or {}), dict(extra or {})
        self.native_n = native_n

    @property
    def url(self) -> str:
        """The chat completions URL; the embedded server starts if it has not."""
        return self._url if isinstance(self._url, str) else self._url()

    def call(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask and wait in this thread."""
        url, headers, content = self._prepared(body)
        return self._answer(url, post(url, headers, content, timeout_s=timeout_s, cancel=cancel))

    async def acall(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Mapping[str, Any]:
        """Ask and wait on the running loop."""
        url, headers, content = await self._aprepared(body)
        return self._answer(url, await apost(url, headers, content, timeout_s=timeout_s, cancel=cancel))

    def stream(self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken) -> Iterator[Mapping[str, Any]]:
        """Ask and yield the chunks as they come."""
        url, headers, content = self._prepared({**body, "stream": True, "stream_options": {"include_usage": True}})
        done = False
        for line in stream_lines(url, headers, content, timeout_s=timeout_s, cancel=cancel):
            if isinstance(line, Reply):
                raise self._error(url, line)
            if line == b"data: [DONE]":
                done = True
                break
            chunk = self._chunk(url, line)
            if chunk is not None:
                done = done or _finished(chunk)
                yield chunk
        if not done:
            raise invalid_response(url, "", self._model, "the stream ended before the answer did", self._secrets())

    async def astream(
        self, body: Mapping[str, Any], *, timeout_s: float, cancel: CancelToken
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Ask and yield the chunks on the running loop."""
        url, headers, content = await self._aprepared({**body, "stream": True, "stream_options": {"include_usage": True}})
        done = False
        async for line in astream_lines(url, headers, content, timeout_s=timeout_s, cancel=cancel):
            if isinstance(line, Reply):
                raise self._error(url, line)
            if line == b"data: [DONE]":
                done = True
                break
            chunk = self._chunk(url, line)
            if chunk is not None:
                done = done or _finished(chunk)
                yield chunk
        if not done:
            raise invalid_response(url, "", self._model, "the stream ended before the answer did", self._secrets())

    def warm_up(self) -> None:
        """Start the embedded server; others are ready or not."""
        if callable(self._url):
            self._url()

    def close(self) -> None:
        """Nothing is held: connections belong to the transport."""

    def _prepared(self, body: Mapping[str, Any]) -> tuple[str, dict[str, str], bytes]:
        return self._written(self.url, body)

    async def _aprepared(self, body: Mapping[str, Any]) -> tuple[str, dict[str, str], bytes]:
        if isinstance(self._url, str):
            return self._written(self._url, body)
        import asyncio

        return self._written(await asyncio.to_thread(self._url), body)  # loading the model must not hold the loop

    def _written(self, url: str, body: Mapping[str, Any]) -> tuple[str, dict[str, str], bytes]:
        sent = {self._renames.get(name, name): value for name, value in body.items()}
        content = json.dumps({"model": self._model, **sent, **self._extra}, ensure_ascii=False).encode("utf-8", "replace")
        key = self._key()
        if key is None and self._key_env and url.startswith("https://"):
            raise LMAuthError(
                f"no API key for {self._model}: the variable {self._key_env} is not set",
                hint=f"run os.environ['{self._key_env}'] = getpass.getpass(), or pass api_key= to the LM",
                model=self._model,
            )
        return url, ({**self._headers, "Authorization": f"Bearer {key}"} if key else self._headers), content

    def _secrets(self) -> tuple[str, ...]:
        return tuple(secret for secret in (self._key(), *self._headers.values()) if secret and len(secret) > 12)  # noqa: PLR2004 - shorter is no key

    def _answer(self, url: str, reply: Reply) -> Mapping[str, Any]:
        if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
            raise self._error(url, reply)
        try:
            answer = json.loads(reply.body)
            if not answer["choices"]:
                raise ValueError("no choices")  # noqa: TRY301 - the same report as any other wrong shape
        except (ValueError, KeyError, TypeError) as error:
            text = reply.body[:2000].decode("utf-8", "replace")
            raise invalid_response(url, text, self._model, "the answer is not a chat completion", self._secrets()) from error
        return answer  # type: ignore[no-any-return]

    def _chunk(self, url: str, line: bytes) -> Mapping[str, Any] | None:
        if not line.startswith(b"data:"):
            return None  # blank lines, comments and event names
        try:
            chunk = json.loads(line[5:])
        except ValueError as error:
            text = line[:2000].decode("utf-8", "replace")
            raise invalid_response(url, text, self._model, "the stream holds a line that is no JSON", self._secrets()) from error
        if isinstance(chunk, dict) and chunk.get("error"):
            raise self._error(url, Reply(_code(chunk["error"]), {}, line[5:]))
        return chunk  # type: ignore[no-any-return]

    def _error(self, url: str, reply: Reply) -> Exception:
        return error_of(url, reply, self._model, self._key_env, self._secrets())


def _finished(chunk: Mapping[str, Any]) -> bool:
    return any(choice.get("finish_reason") for choice in chunk.get("choices") or ())


def _code(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and code >= 400 else 500  # noqa: PLR2004 - HTTP's errors begin there
