"""`VectorIndex`: what all indexes by vectors share: embedding, unit length, one scale of scores, modes and their fusion."""

from __future__ import annotations

import asyncio
import inspect
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dspex_nb.errors import DSPexError, RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval.arrays import is_unit, unit
from dspex_nb.retrieval.base import Filter, Index, Mode, Way, counted, deeper, listed, texts_of
from dspex_nb.retrieval.batches import BATCH, Listener, batches
from dspex_nb.retrieval.columns import Columns
from dspex_nb.retrieval.documents import columns_of
from dspex_nb.retrieval.embedders import embedder_of
from dspex_nb.retrieval.filters import Condition, read_filter
from dspex_nb.retrieval.hits import Found, ranked
from dspex_nb.retrieval.merging import rrf
from dspex_nb.retrieval.queries import Queries, are_several, is_vector
from dspex_nb.retrieval.scales import SCALES
from dspex_nb.transport import redact

if TYPE_CHECKING:
    from dspex_nb.retrieval.arrays import Vectors

_SECRETS = ("api_key", "password", "token")
_SCALAR_DIMENSIONS = 2


class Embeds(Protocol):
    """What makes vectors of texts: one row a text, all of one length."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row for each text."""


class VectorIndex(Index):
    """Base of indexes that find by vectors. All vectors have unit length, so a store's metric changes the number, not the order.

    A subclass opens its store in `_open`, whose keywords are its options.

    Attributes:
        metric: What the store's number is: one of `SCALES`.

    Args:
        index: What it holds from the start: anything that `add` takes.
        embedder: Makes vectors of texts: a `dx.Embedder`, an object with `embed(texts)`, a model's name, or a function of a list
            of texts. The embedded model where none is given and texts come without vectors.
        k: How many passages a search gives where it does not say.
        text_field: The key or column that holds the text.
        options: The store's own: `help` of its class lists them.
    """

    __signature__: ClassVar[inspect.Signature]
    modes: tuple[str, ...] = ("dense",)
    metric: ClassVar[str] = "cosine"
    portable: ClassVar[bool] = False

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.__signature__ = _signature(cls)  # help and completion show the store's options

    def __init__(
        self, index: Any = None, *, embedder: Any = None, k: int = 5, text_field: str | None = None, **options: Any
    ) -> None:
        import numpy as np

        self._array, self._float32 = np.ndarray, np.dtype(np.float32)  # not looked up at each search
        self._embedder = callable_of(embedder)
        self._lock: threading.RLock = threading.RLock()
        self._dimension: int | None = None
        self._cosine = SCALES[self.metric]
        self._secrets = [str(options[name]) for name in _SECRETS if options.get(name)]
        with self._asking("opening"):
            self._open(**options)
        super().__init__(index, k=k, text_field=text_field)

    @abstractmethod
    def _open(self, *args: Any, **options: Any) -> None:
        """Connect to the store, or make it; set `_dimension` where it holds vectors already."""

    @abstractmethod
    def _store(self, given: Columns, vectors: Vectors) -> None:
        """Store passages with their vectors, replacing those that are there."""

    @abstractmethod
    def _nearest(self, vectors: Vectors, k: int, where: Any) -> Sequence[Iterable[Found]]:
        """Return for each vector at most `k` hits that satisfy `where`, nearest first."""

    @abstractmethod
    def _where(self, condition: Condition) -> Any:
        """Return a condition as the store has it."""

    def add(
        self,
        texts: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[Any] | None = None,
        vectors: Any = None,
        *,
        on_progress: Listener = None,
    ) -> list[str]:
        """Add texts with their vectors and return the ids: see `Index.add`."""
        given, made = self._with_vectors(texts, metadatas, ids, vectors)
        for start, batch in batches(given, on_progress):
            rows = self._embedded(batch.texts) if made is None else made[start : start + len(batch)]
            self._write_rows(batch, rows)
        return given.ids

    def search(
        self,
        query: Any,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[Passage]:
        """Return the best passages, highest score first: see `Index.search`."""
        wanted = self.k if k is None else k
        if filter is None and mode is None and self._is_usual(query) and type(wanted) is int and wanted > 0:
            try:  # as `_asking` does, without what it costs each search
                return self._nearest_to(query, wanted)
            except (DSPexError, NotImplementedError):
                raise
            except Exception as error:  # noqa: BLE001 - any store's own errors
                raise self._failed("searching", error) from None
        return super().search(query, k, filter, mode)

    async def asearch(
        self,
        query: Any,
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[Passage]:
        """Return what `search` does, without blocking the event loop: see `abatch`."""
        mode = self._mode(mode)
        if mode == "dense":
            return (await self.abatch([query], k, filter, mode))[0]
        if not self.concurrent or is_vector(query):
            return await super().asearch(query, k, filter, mode)
        return await self._afused(texts_of(query), self.k if k is None else counted(k), filter, mode)

    async def _afused(self, texts: list[str], k: int, filter: Filter | None, mode: Way) -> list[Passage]:  # noqa: A002
        """Return the best of several texts or modes, all of which are awaited at once."""
        ways = _ways(mode)
        if not k or not texts:
            return []
        if len(texts) == 1 and mode in ("dense", "sparse"):
            return (await self._arankings(texts, k, filter, next(iter(ways))))[0]
        found = await asyncio.gather(*(self._arankings(texts, deeper(k), filter, way) for way in ways))
        weights = [weight for weight in ways.values() for _ in texts]
        return rrf([ranking for rankings in found for ranking in rankings], weights)[:k]

    async def _arankings(self, texts: list[str], k: int, filter: Filter | None, way: str) -> list[list[Passage]]:  # noqa: A002
        if way == "dense":
            return await self.abatch(texts, k, filter, way)
        return await asyncio.gather(*(self._asparse(one, k, filter) for one in texts))

    async def _asparse(self, query: str, k: int, filter: Filter | None) -> list[Passage]:  # noqa: A002
        """Return what a search by words finds, from a thread unless the store can await it."""
        return await super().asearch(query, k, filter, "sparse")

    async def abatch(
        self,
        queries: Iterable[Any],
        k: int | None = None,
        filter: Filter | None = None,  # noqa: A002 - the API's word
        mode: Mode = None,
    ) -> list[list[Passage]]:
        """Return what `batch` does, without blocking the event loop.

        An embedder that can be awaited is; the store's search is where the index is `concurrent`, else it runs in a thread.
        """
        mode = self._mode(mode)
        asked = listed(queries)
        condition, wanted = read_filter(filter), self.k if k is None else counted(k)
        if mode != "dense" or any(are_several(one) for one in asked):
            if not self.concurrent:
                return await super().abatch(asked, k, filter, mode)
            return await asyncio.gather(*(self._aone(one, wanted, filter, mode) for one in asked))
        plan = Queries(asked, self._checked)
        if not wanted or not plan.rows:
            return [[] for _ in asked]
        plan.fill(await self._aembedded(plan.texts) if plan.texts else [])
        if self._dimension is None:
            return [[] for _ in asked]
        if not self.concurrent:
            return plan.answers(await asyncio.to_thread(self._dense, plan.vectors, wanted, condition))
        with self._asking("searching"):
            where = None if condition is None else await self._awhere(condition)
            found = await self._anearest(plan.vectors, wanted, where)
            return plan.answers([ranked(hits, self._cosine) for hits in found])

    async def _aone(self, query: Any, k: int, filter: Filter | None, mode: Way) -> list[Passage]:  # noqa: A002
        """Return what one search of a batch finds; several texts are fused by vectors, too."""
        if is_vector(query):
            return await self.asearch(query, k, filter, mode)
        return await self._afused(texts_of(query), k, filter, mode)

    async def aadd(
        self,
        texts: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[Any] | None = None,
        vectors: Any = None,
        *,
        on_progress: Listener = None,
    ) -> list[str]:
        """Do what `add` does: embedder and store are awaited where they can be, else in a thread; `on_progress` in the loop.

        Many texts are made passages in a thread: that computes, and would hold up the loop.
        """
        if self.concurrent and isinstance(texts, Sized) and len(texts) <= BATCH:
            given, made = self._with_vectors(texts, metadatas, ids, vectors)
        else:
            given, made = await asyncio.to_thread(self._with_vectors, texts, metadatas, ids, vectors)
        given = given.own()  # others run while this waits
        for start, batch in batches(given, on_progress):
            rows = await self._aembedded(batch.texts) if made is None else made[start : start + len(batch)]
            await self._awrite_rows(batch, rows)
        return given.ids

    def _with_vectors(self, texts: Any, metadatas: Any, ids: Any, vectors: Any) -> tuple[Columns, Vectors | None]:
        """Return columns with different ids, of equal ones the last, and the vectors that were given with them."""
        given = columns_of(texts, metadatas, ids, text_field=self._text_field)
        made = self._checked(vectors, len(given)) if vectors is not None and len(given) else None
        last = given.last_places()
        if last is None:
            return given, made
        return given.at(last), None if made is None else made[last]

    def _write_rows(self, given: Columns, vectors: Vectors) -> None:
        with self._asking("adding"):
            self._store(given, vectors)

    async def _awrite_rows(self, given: Columns, vectors: Vectors) -> None:
        await asyncio.to_thread(self._write_rows, given, vectors)

    async def _awhere(self, condition: Condition) -> Any:
        return await asyncio.to_thread(self._where, condition)  # an order may read all

    async def _anearest(self, vectors: Vectors, k: int, where: Any) -> Sequence[Iterable[Found]]:
        raise NotImplementedError  # a `concurrent` store has it

    def _search(self, query: Any, k: int, condition: Condition | None, mode: Way) -> list[Passage]:
        if is_vector(query):
            if mode != "dense":
                raise RetrieverError(
                    f"a vector has no words to find by: mode={mode!r}", hint='search for a text, or with mode="dense"'
                )
            row = query[None] if self._is_usual(query) else self._checked(query, None)
            return self._dense(row, k, condition)[0] if k else []
        queries = texts_of(query)
        if not k or not queries:
            return []
        if len(queries) == 1 and mode in ("dense", "sparse"):
            return self._ranking(queries, k, condition, str(mode))[0]
        ways = _ways(mode)
        found = {way: self._ranking(queries, deeper(k), condition, way) for way in ways}
        weights = [ways[way] for way, rankings in found.items() for _ in rankings]
        return rrf([ranking for rankings in found.values() for ranking in rankings], weights)[:k]

    def _batch(self, queries: list[Any], k: int, condition: Condition | None, mode: Way) -> list[list[Passage]]:
        if mode != "dense" or not k or any(are_several(one) for one in queries):
            return super()._batch(queries, k, condition, mode)
        plan = Queries(queries, self._checked)
        plan.fill(self._embedded(plan.texts) if plan.texts else [])
        return plan.answers(self._dense(plan.vectors, k, condition) if plan.rows else [])

    def _ranking(self, queries: list[str], k: int, condition: Condition | None, mode: str) -> list[list[Passage]]:
        if mode == "dense":
            return self._dense(self._embedded(queries), k, condition)
        with self._asking("searching"):
            return [self._find(one, k, condition) for one in queries]

    def _nearest_to(self, query: Any, k: int) -> list[Passage]:
        """Return what is nearest to the usual query: what most searches are, and the fewer lines they go through the better."""
        return self._dense(query[None], k, None)[0]

    def _dense(self, vectors: Vectors, k: int, condition: Condition | None) -> list[list[Passage]]:
        if self._dimension is None:  # nothing was ever added
            return [[] for _ in vectors]
        try:  # as `_asking` does, without what it costs each search
            found = self._nearest(vectors, k, None if condition is None else self._where(condition))
            return [ranked(hits, self._cosine) for hits in found]
        except (DSPexError, NotImplementedError):
            raise
        except Exception as error:  # noqa: BLE001 - any store's own errors
            raise self._failed("searching", error) from None

    def _put(self, passages: list[Passage]) -> None:
        self.add(passages)

    def _find(self, query: str, k: int, condition: Condition | None) -> list[Passage]:
        raise NotImplementedError  # a store with the mode "sparse" has it

    def _embedded(self, texts: list[str]) -> Vectors:
        if self._embedder is None:
            self._embedder = embedder_of(None).embed  # loaded only now: an index of given vectors needs none
        return self._checked(self._embedder(texts), len(texts))

    def _awaited(self) -> Callable[[list[str]], Any] | None:
        """Return what makes vectors of texts by being awaited; None where the embedder only can be called."""
        found = getattr(getattr(self._embedder, "__self__", None), "aembed", None)
        return found if callable(found) else None

    async def _aembedded(self, texts: list[str]) -> Vectors:
        awaited = self._awaited()
        if awaited is None:
            return await asyncio.to_thread(self._embedded, texts)
        return self._checked(await awaited(texts), len(texts))

    def _is_usual(self, query: Any) -> bool:
        """Say whether a query is the usual one: an array of unit length, as the index holds them."""
        if type(query) is not self._array or query.dtype is not self._float32 or query.shape != (self._dimension,):
            return False
        return is_unit(query) and query.flags.c_contiguous

    def _checked(self, given: Any, count: int | None) -> Vectors:
        """Return vectors of unit length, as many as are expected, None for one alone, and of the index's dimension."""
        import numpy as np

        try:
            found = np.asarray(given, dtype=np.float32)
        except (TypeError, ValueError):
            raise RetrieverError(
                "the vectors are no rows of numbers, all of one length", hint="give a list of vectors, one a text"
            ) from None
        if count is None:
            found = found.reshape(1, -1)
        if found.ndim != _SCALAR_DIMENSIONS or (count is not None and len(found) != count) or not found.shape[1]:
            raise RetrieverError(
                f"vectors of the shape {found.shape} for {count} texts", hint="give one vector a text, all of one length"
            )
        if self._dimension is not None and found.shape[1] != self._dimension:
            raise RetrieverError(
                f"a vector has {found.shape[1]} numbers; the {self.name} index holds vectors of {self._dimension}",
                hint="use the embedder that the index was made with, or make a new index",
            )
        return unit(found)

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn a store's own errors into ours, without credentials."""
        try:
            yield
        except (DSPexError, NotImplementedError):
            raise
        except Exception as error:  # noqa: BLE001 - any store's own errors
            raise self._failed(doing, error) from None

    def _failed(self, doing: str, error: Exception) -> RetrieverError:
        said = redact(f"{type(error).__name__}: {error}", self._secrets)
        return RetrieverError(f"{doing} in {self.name} failed: {said}", hint=self._advice())

    def _advice(self) -> str:
        return (
            "check that the server runs, and that its address and the password or token are right"
            if self.kept == "server"
            else "check the retriever's options"
        )


def _ways(mode: Way) -> Mapping[str, float]:
    """Return how much each way of finding counts, those left out that count for nothing."""
    if mode == "hybrid":
        return {"dense": 1.0, "sparse": 1.0}
    return {mode: 1.0} if isinstance(mode, str) else {way: weight for way, weight in mode.items() if weight}


def callable_of(given: Any) -> Callable[[list[str]], Any] | None:
    """Return what makes vectors of texts: an embedder's `embed`, or the function that was given.

    Raises:
        RetrieverError: It is neither.
    """
    if isinstance(given, str) or inspect.iscoroutinefunction(given):
        given = embedder_of(given)
    if given is None or callable(getattr(given, "embed", None)):
        return None if given is None else given.embed
    if callable(given):
        return given  # type: ignore[no-any-return]
    raise RetrieverError(
        f"embedder={given!r:.60}: expected an embedder, a model's name, or a function of a list of texts",
        hint="write e.g. embedder=dx.Embedder()",
    )


def _signature(cls: type[VectorIndex]) -> inspect.Signature:
    common = [one for one in inspect.signature(VectorIndex.__init__).parameters.values() if one.name not in ("self", "options")]
    own = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(cls._open).parameters.items()
        if name not in ("self", "args", "options")
    ]
    return inspect.Signature([*common, *own])
