"""`ColBERTv2`: a server that speaks the protocol of `dspy.ColBERTv2`, asked by our own transport."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

from dspex_nb.errors import DSPexError, FilterError, LMError, RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import Filter, Index, Mode, Way, counted, deeper, listed, texts_of
from dspex_nb.retrieval.filters import Condition, read_filter
from dspex_nb.retrieval.merging import rrf
from dspex_nb.transport import aget, apost, basic_auth, get, host_of, post, without_userinfo
from dspex_nb.transport.records import Reply

_MOST = 100  # passages that such a server gives
_OK = 200
_HEADERS = {"Content-Type": "application/json", "User-Agent": "dspex_nb"}


class ColBERTv2(Index):
    """Searches a ColBERTv2 server; what it holds is made and changed there.

    The server is asked `GET URL?query=…&k=…`, or with `post=True` by a JSON body, and answers
    `{"topk": [{"text": …, "score": …}]}`. A text in the form `title | text` gives a title. A score is the server's own: a sum
    over the query's tokens, above 1.

    Args:
        url: The server's address, the path included, e.g. `"http://host:8893/api/search"`.
        port: Its port, where the address does not say it.
        post: Asks by POST. DSPy's client loses `long_text` there; ours reads both alike.
        k: How many passages a search gives where it does not say; 100 at most.
        timeout_s: Seconds for one search.

    Raises:
        RetrieverError: The address is none.
    """

    name = "colbertv2"
    modes = ("dense",)
    kept = "server"
    filtering = "none"
    concurrent = True

    def __init__(self, *, url: str, port: int | str | None = None, post: bool = False, k: int = 5, timeout_s: float = 30) -> None:
        super().__init__(k=k)
        address = str(url).rstrip("/")
        if port and (parts := urlsplit(address)).hostname and parts.port is None:
            address = f"{parts.scheme}://{parts.netloc}:{port}{parts.path}"
        if not address.startswith(("http://", "https://")):
            raise RetrieverError(
                f"url={without_userinfo(address)!r} is no address", hint="write e.g. url='http://host:8893/api/search'"
            )
        self._url, self._auth = without_userinfo(address), basic_auth(address)
        self._post, self._timeout_s = post, timeout_s

    @property
    def version(self) -> str:
        """A new one each time: the server does not say when its index changes, so that no search of it may be reused."""
        return f"{self.name}:{uuid.uuid4().hex}"

    def add(self, *given: Any, **more: Any) -> list[str]:  # noqa: ARG002
        """Refuse: the protocol only searches."""
        self._refuse("add to")

    def delete(self, ids: str | Iterable[str]) -> int:  # noqa: ARG002
        """Refuse: the protocol only searches."""
        self._refuse("delete from")

    def count(self) -> int:
        """Refuse: the protocol does not tell."""
        raise RetrieverError(f"the ColBERTv2 server at {host_of(self._url)} does not say how many it holds", hint="search it")

    def __repr__(self) -> str:
        return f"<colbertv2 retriever at {self._url}>"

    async def asearch(
        self,
        query: Any,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[Passage]:
        """Return what `search` does; many such searches wait on the network together."""
        return (await self.abatch([query], k, filter, mode))[0]

    async def abatch(
        self,
        queries: Iterable[Any],
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[list[Passage]]:
        """Return what `batch` does; all are awaited at once."""
        self._mode(mode)
        wanted = self._few(self.k if k is None else counted(k), read_filter(filter))

        async def one(query: Any) -> list[Passage]:
            texts = texts_of(query) if wanted else []
            found = await asyncio.gather(*(self._afound(text, wanted if len(texts) == 1 else deeper(wanted)) for text in texts))
            return found[0] if len(found) == 1 else rrf(found)[:wanted]

        return await asyncio.gather(*map(one, listed(queries)))

    def _search(self, query: Any, k: int, condition: Condition | None, mode: Way) -> list[Passage]:
        return super()._search(query, self._few(k, condition), condition, mode)

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        del condition  # refused by now
        try:
            if self._post:
                reply = post(self._url, self._headers, _body(query, k), timeout_s=self._timeout_s)
            else:
                reply = get(self._address(query, k), headers=self._headers, timeout_s=self._timeout_s)
        except LMError as error:
            raise _silent(error) from None
        return self._read(reply, k)

    async def _afound(self, query: str, k: int) -> list[Passage]:
        try:
            if self._post:
                reply = await apost(self._url, self._headers, _body(query, k), timeout_s=self._timeout_s)
            else:
                reply = await aget(self._address(query, k), headers=self._headers, timeout_s=self._timeout_s)
        except LMError as error:
            raise _silent(error) from None
        return self._read(reply, k)

    def _few(self, k: int, condition: Condition | None) -> int:
        """Return `k` if such a server can be asked for so many, without a filter."""
        if condition is not None:
            raise FilterError("a ColBERTv2 server takes no filter", hint="filter what it found, or index what you want to search")
        if k > _MOST:
            raise RetrieverError(f"k={k}: a ColBERTv2 server gives at most {_MOST} passages", hint=f"write k={_MOST} or less")
        return k

    @property
    def _headers(self) -> dict[str, str]:
        return {**_HEADERS, **self._auth}

    def _address(self, query: str, k: int) -> str:
        return f"{self._url}?{urlencode({'query': query, 'k': min(k, _MOST)})}"

    def _read(self, reply: Reply, k: int) -> list[Passage]:
        if reply.status != _OK:
            said = " ".join(reply.body[:200].decode("utf-8", "replace").split())
            raise RetrieverError(f"{host_of(self._url)} answered {reply.status}: {said}", hint="check url=, its path included")
        try:
            answer = json.loads(reply.body)
            if answer.get("error"):
                raise RetrieverError(f"{host_of(self._url)}: {answer.get('message') or answer['error']}", hint="run again later")
            topk: list[Mapping[str, Any]] = answer["topk"][:k]
        except DSPexError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._no_form(f"{type(error).__name__}: {error}") from None
        try:
            passages = [_passage(one, rank) for rank, one in enumerate(topk)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._no_form(f"a passage lacks {error}") from None
        return sorted(passages, key=lambda one: -one.score)

    def _no_form(self, what: str) -> RetrieverError:
        return RetrieverError(
            f"the answer of {host_of(self._url)} is not ColBERTv2's: {what}", hint="check url=: it usually ends in /api/search"
        )

    def _refuse(self, what: str) -> NoReturn:
        raise RetrieverError(
            f"nobody can {what} the ColBERTv2 index at {host_of(self._url)} through its server",
            hint="index the texts where it runs",
        )

    def _put(self, passages: list[Passage]) -> None:
        del passages
        self._refuse("add to")

    def _drop(self, ids: list[str]) -> int:
        del ids
        self._refuse("delete from")


def _body(query: str, k: int) -> bytes:
    return json.dumps({"query": query, "k": min(k, _MOST)}).encode()


def _silent(error: LMError) -> RetrieverError:
    return RetrieverError(f"ColBERTv2: {error.message}", hint="check that the server is running and that url= is right")


def _passage(one: Mapping[str, Any], rank: int) -> Passage:
    """Read a passage: `long_text` where a server says it, else `text`."""
    whole = one.get("long_text") or one["text"]
    if not isinstance(whole, str):
        raise TypeError("a text")
    title, bar, rest = whole.partition(" | ")
    metadata: dict[str, Any] = {"title": title} if bar and rest else {}
    metadata |= {name: one[name] for name in ("pid", "prob", "rank") if isinstance(one.get(name), str | int | float)}
    score = one.get("score")
    return Passage(whole, str(one.get("pid", "")), float(score) if score is not None else 1 / (rank + 1), metadata)
