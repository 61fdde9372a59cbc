"""`WireCollection`: passages in a service that speaks JSON over HTTP, by our own transport: no client package is needed."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dspex_nb.errors import LMError, RetrieverError
from dspex_nb.retrieval.collection import DEFAULT_NAME, Collection, safe_name
from dspex_nb.retrieval.hits import Found
from dspex_nb.transport import apost, redact, send, shown_address

_BAD = 400
_MISSING = 404
FIELDS = ("id", "text", "metadata")


class WireCollection(Collection):
    """Base of stores reached over HTTP. A subclass says paths and bodies."""

    kept = "server"
    safe = True
    concurrent = True

    def _open(self, *, url: str, collection: str = DEFAULT_NAME, api_key: str | None = None, timeout_s: float = 30) -> None:
        """Reach the service at `url`; the collection is made at the first `add`."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise RetrieverError(
                f"url={shown_address(url)!r} is no http or https address", hint="write e.g. url='https://host:9200'"
            )
        self._url, self._timeout_s, self._name = url.rstrip("/"), timeout_s, safe_name(collection)
        self._key = api_key or ""
        self._dimension = self._there()

    def __repr__(self) -> str:
        return f"<{self.name} retriever, {self._name!r} at {shown_address(self._url)}>"

    @abstractmethod
    def _there(self) -> int | None:
        """Return the length of the vectors in the collection, None if there is none."""

    @abstractmethod
    def _headers(self) -> dict[str, str]:
        """Return the headers that carry the key."""

    @abstractmethod
    def _search_of(self, vector: list[float], k: int, where: Any) -> tuple[str, Any]:
        """Return the path and body of a search."""

    @abstractmethod
    def _answer_of(self, found: Any) -> list[tuple[str, str, str, float]]:
        """Return id, text, metadata and number of what a search found."""

    def _call(self, method: str, path: str, body: Any = None, *, missing: Any = ...) -> Any:
        """Return the JSON of a reply; `missing` where the service says there is no such thing."""
        try:
            reply = send(method, self._url + path, self._said(), _bytes(body), timeout_s=self._timeout_s)
        except LMError as error:
            raise RetrieverError(
                f"no answer from {self.name}: {redact(error.message, [self._key])}", hint=self._advice()
            ) from None
        return self._read(reply.status, reply.body, missing)

    def _found(self, vector: list[float], k: int, where: Any) -> Iterable[tuple[str, str, str, float]]:
        path, body = self._search_of(vector, k, where)
        return self._answer_of(self._call("POST", path, body))

    async def _anearest(self, vectors: Any, k: int, where: Any) -> Sequence[Iterable[Found]]:
        async def ask(vector: list[float]) -> Iterable[Found]:
            path, body = self._search_of(vector, k, where)
            try:
                reply = await apost(self._url + path, self._said(), _bytes(body) or b"", timeout_s=self._timeout_s)
            except LMError as error:
                said = redact(error.message, [self._key])
                raise RetrieverError(f"no answer from {self.name}: {said}", hint=self._advice()) from None
            return self._answer_of(self._read(reply.status, reply.body, ...))

        return await asyncio.gather(*(ask(one) for one in vectors.tolist()))

    def _said(self) -> Mapping[str, str]:
        return {"Content-Type": "application/json", "Accept": "application/json", **(self._headers() if self._key else {})}

    def _read(self, status: int, body: bytes, missing: Any) -> Any:
        if status == _MISSING and missing is not ...:
            return missing
        if status >= _BAD:
            said = redact(body.decode("utf-8", "replace"), [self._key])
            hint = "check the key and what it may do" if status in (401, 403) else self._advice()
            raise RetrieverError(f"{self.name} answered {status}: {said}", hint=hint)
        try:
            return json.loads(body) if body.strip() else {}
        except ValueError:
            raise RetrieverError(f"{self.name} answered no JSON", hint=self._advice()) from None


def _bytes(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body, ensure_ascii=False).encode()
