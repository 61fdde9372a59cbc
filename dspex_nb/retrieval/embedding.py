"""`Embedder`: texts become vectors of length 1, in batches, each text paid for once."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dspex_nb.cache import Cache
from dspex_nb.cache.keys import digest
from dspex_nb.errors import DataError, RetrieverError
from dspex_nb.events import LMCalled, Progress
from dspex_nb.scopes import CancelToken, Scope, new_run_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_VERSION = 1  # of what is kept: raise it when the same text must be embedded anew


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a backend gives for a batch: one row a text, and what it used."""

    vectors: Any
    prompt_tokens: int = 0
    cost: float | None = 0.0


class Backend(Protocol):
    """What turns a batch of texts into vectors.

    Attributes:
        name: What it is called.
        identity: Names model and server in cache keys; empty where two of one name may differ, and nothing is cached then.
        dimension: Numbers in a vector; None until one is made.
        batch_size: Texts in one call.
        parallel: Calls worth making at once.
    """

    name: str
    identity: str
    dimension: int | None
    batch_size: int
    parallel: int

    def embed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Embed one batch in this thread."""
        ...

    async def aembed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Embed one batch on the running loop."""
        ...


class Embedder:
    """Embeds texts with a backend; safe to use from threads and tasks at once.

    Args:
        backend: What does the work.
        cache: False embeds anew each time.
    """

    def __init__(self, backend: Backend, *, cache: bool = True) -> None:
        self.backend, self._use_cache = backend, cache and bool(backend.identity)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.backend.name

    @property
    def identity(self) -> str:
        """Names model and server: indexes embedded by different ones cannot be searched with each other's vectors."""
        return self.backend.identity or self.backend.name

    @property
    def dimension(self) -> int:
        """Numbers in a vector; where nothing says, one word is embedded to find out."""
        if self.backend.dimension is None:
            self.backend.dimension = int(self.embed(["dimension"]).shape[1])
        return self.backend.dimension

    def embed(self, texts: Sequence[str], *, on_progress: Callable[[Progress], object] | None = None) -> Vectors:
        """Return a float32 array with one row of length 1 a text.

        Args:
            texts: What to embed; each different text is embedded once, and not at all if the cache has it.
            on_progress: Told how many of the texts not in the cache are done.

        Raises:
            DataError: Something that is no text.
            RetrieverError: The backend gave no usable vectors.
            LMError: A server failed; see its kinds.
        """
        work = _Work(self, texts, on_progress)
        batches = list(work.batches())
        if len(batches) > 1 and self.backend.parallel > 1:
            self._embed_at_once(work, batches)
        else:
            for batch in batches:
                work.take(batch, self._asked(work, batch))
        return work.result()

    async def aembed(self, texts: Sequence[str], *, on_progress: Callable[[Progress], object] | None = None) -> Vectors:
        """Return what `embed` does; calls to a server run at once on the running loop."""
        work = await asyncio.to_thread(_Work, self, texts, on_progress)
        turns = asyncio.Semaphore(self.backend.parallel)

        async def one(batch: list[str]) -> None:
            async with turns:
                started = time.perf_counter()
                try:
                    found = await self.backend.aembed(batch, work.cancel)
                except BaseException as error:
                    work.publish(started, None, error)
                    raise
                work.publish(started, found)
                await asyncio.to_thread(work.take, batch, found)

        try:
            async with asyncio.TaskGroup() as group:
                for batch in work.batches():
                    group.create_task(one(batch))
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        return work.result()

    def __call__(self, inputs: str | Sequence[str], **_options: Any) -> Vectors:
        """Embed as `dspy.Embedder` does: a text gives one vector, a list one row each."""
        if isinstance(inputs, str):
            one: Vectors = self.embed([inputs])[0]
            return one
        return self.embed(inputs)

    def __repr__(self) -> str:
        shown = f", {self.backend.dimension} dimensions" if self.backend.dimension else ""
        return f"<Embedder {self.name!r}{shown}>"

    def _surroundings(self) -> tuple[Cache | None, Scope]:
        """Return the cache to use and the run that calls belong to; the façade says the session's."""
        return None, Scope(new_run_id())

    def _asked(self, work: _Work, batch: list[str]) -> Embedded:
        started = time.perf_counter()
        try:
            found = self.backend.embed(batch, work.cancel)
        except BaseException as error:
            work.publish(started, None, error)
            raise
        work.publish(started, found)
        return found

    def _embed_at_once(self, work: _Work, batches: list[list[str]]) -> None:
        with ThreadPoolExecutor(min(self.backend.parallel, len(batches)), "dspex-embedding") as threads:
            waiting = {threads.submit(self._asked, work, batch): batch for batch in batches}
            try:
                for future, batch in waiting.items():
                    work.take(batch, future.result())
            except BaseException:
                work.cancel.cancel()
                threads.shutdown(wait=False, cancel_futures=True)
                raise


class _Work:
    """The texts of one call: those known, those to be made, and their rows put together."""

    def __init__(self, embedder: Embedder, texts: Sequence[str], on_progress: Callable[[Progress], object] | None) -> None:
        self._texts = _checked(texts)
        self._backend = embedder.backend
        cache, self._scope = embedder._surroundings()  # noqa: SLF001 - two halves of one class
        self._cache = cache if embedder._use_cache else None  # noqa: SLF001
        self.cancel, self._on_progress = self._scope.cancel, on_progress
        self._rows: dict[str, Any] = {}
        self._new = [text for text in dict.fromkeys(self._texts) if not self._known(text)]
        self._total = len(self._new)
        hits = len(self._rows)
        if hits:
            self._scope.publish(LMCalled(run_id=self._scope.run_id, model=self._backend.name, cached=self._tier))

    def batches(self) -> Iterator[list[str]]:
        """Yield the texts that are not known yet."""
        for start in range(0, self._total, self._backend.batch_size):
            yield self._new[start : start + self._backend.batch_size]

    def take(self, batch: list[str], found: Embedded) -> None:
        """Keep what a batch gave."""
        import numpy as np

        try:
            rows = np.asarray(found.vectors, dtype=np.float32)
            said = f"an array of shape {rows.shape} for {len(batch)} texts"
        except (ValueError, TypeError):
            rows, said = np.empty(0, np.float32), "rows of different lengths, or what is no number"
        if rows.ndim != 2 or len(rows) != len(batch) or not np.isfinite(rows).all():  # noqa: PLR2004 - rows and columns
            raise RetrieverError(
                f"{self._backend.name} gave {said if np.isfinite(rows).all() else 'a vector with numbers that are none'}",
                hint="an embedding function takes a list of texts and returns one vector of equal length for each",
            )
        if self._backend.dimension is None:
            self._backend.dimension = rows.shape[1]
        if rows.shape[1] != self._backend.dimension:
            raise RetrieverError(
                f"{self._backend.name} gave vectors of {rows.shape[1]} numbers, before of {self._backend.dimension}",
                hint="a model keeps its dimension: check dimensions= and the function",
            )
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        for text, row in zip(batch, rows, strict=True):
            self._rows[text] = row
            if self._cache is not None:
                self._cache.put(self._key(text), _record(row, found, len(text) / max(1, sum(map(len, batch)))))
        if self._on_progress:
            done = self._total - sum(text not in self._rows for text in self._new)
            self._on_progress(Progress(run_id=self._scope.run_id, done=done, total=self._total))

    def publish(self, started: float, found: Embedded | None, error: BaseException | None = None) -> None:
        """Tell the run of a call that ended."""
        self._scope.publish(
            LMCalled(
                run_id=self._scope.run_id, model=self._backend.name, step=self._scope.step,
                prompt_tokens=found.prompt_tokens if found else 0, cost=found.cost if found else None,
                elapsed_s=time.perf_counter() - started,
                error=f"{type(error).__name__}: {getattr(error, 'message', error)}" if error is not None else None,
            )
        )  # fmt: skip

    def result(self) -> Vectors:
        """Return the rows in the texts' order."""
        import numpy as np

        if not self._texts:
            return np.empty((0, self._backend.dimension or 0), np.float32)
        made: Vectors = np.stack([self._rows[text] for text in self._texts])
        return made

    _tier = "memory"

    def _known(self, text: str) -> bool:
        hit = self._cache.get(self._key(text)) if self._cache is not None else None
        row = _row(hit.value) if hit is not None else None
        if row is None or (self._backend.dimension is not None and len(row) != self._backend.dimension):
            return False
        self._rows[text], self._tier = row, hit.tier if hit else "memory"
        if self._backend.dimension is None:
            self._backend.dimension = len(row)
        return True

    def _key(self, text: str) -> str:
        return digest(("embedding", _VERSION, self._backend.identity, text))


def _record(row: Any, found: Embedded, share: float) -> dict[str, Any]:
    record: dict[str, Any] = {
        "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode(),
        "usage": {"prompt_tokens": round(found.prompt_tokens * share), "completion_tokens": 0},
    }
    return record if found.cost is None else {**record, "cost": found.cost * share}


def _row(record: Mapping[str, Any]) -> Any:
    """Return a kept vector, or None if the record is none of ours."""
    import numpy as np

    try:
        found = np.frombuffer(base64.b64decode(record["embedding"], validate=True), "<f4").astype(np.float32)
    except (KeyError, ValueError, TypeError):
        return None
    return found if found.size and np.isfinite(found).all() else None


def _checked(texts: Any) -> list[str]:
    if isinstance(texts, str | bytes | Mapping) or not hasattr(texts, "__iter__"):
        raise DataError(f"expected a list of texts, found a {type(texts).__name__}", hint='write e.g. embed(["one", "two"])')
    found = list(texts)
    for one in found:
        if not isinstance(one, str):
            raise DataError(f"cannot embed {one!r:.60}, a {type(one).__name__}", hint="give texts, e.g. [str(x) for x in found]")
    return found
