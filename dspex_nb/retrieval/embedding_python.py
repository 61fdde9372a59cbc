"""Embedding models that are Python: a function of one's own, or a model of sentence-transformers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from dspex_nb.errors import MissingDependencyError, RetrieverError
from dspex_nb.retrieval.embedding import Embedded
from dspex_nb.scopes import CancelToken

_PREFIX = "sentence-transformers/"


class Function:
    """Embeds with a Python function that takes a list of texts and gives one vector for each; it may be `async`.

    Args:
        function: The function.
        name: What it is called. Only a named function's vectors are cached: two functions may look alike and differ.
        dimension: Numbers in a vector, where it is known.
        batch_size: Texts in one call.
    """

    parallel = 1

    def __init__(
        self, function: Callable[[list[str]], Any], *, name: str = "", dimension: int | None = None, batch_size: int = 200
    ) -> None:
        self._function, self.dimension, self.batch_size = function, dimension, batch_size
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.identity = f"function:{name}" if name else ""

    def embed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Call the function in this thread."""
        cancel.check()
        found = self._function(list(texts))
        if inspect.isawaitable(found):
            if inspect.iscoroutine(found):
                found.close()
            raise RetrieverError(
                f"the embedding function {self.name!r} is async",
                hint="await it: `embedder.aembed(texts)`, a retriever's `aadd` and `asearch`; or give a plain function",
            )
        return Embedded(found)

    async def aembed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Await the function, or call it in a thread."""
        cancel.check()
        if inspect.iscoroutinefunction(self._function):
            return Embedded(await self._function(list(texts)))
        return await asyncio.to_thread(self.embed, texts, cancel)


class SentenceTransformers:
    """Embeds with a model of sentence-transformers.

    Args:
        model: Its name at the model hub (with or without `sentence-transformers/`), a folder, or a loaded `SentenceTransformer`.
        batch_size: Texts in one call.
        **options: Given to `SentenceTransformer`, e.g. `device="cuda"`, `truncate_dim=256`.

    Raises:
        MissingDependencyError: The package is not installed.
        RetrieverError: The model cannot be loaded.
    """

    parallel = 1

    def __init__(self, model: Any, *, batch_size: int = 64, **options: Any) -> None:
        self.batch_size = batch_size
        if hasattr(model, "encode") and not isinstance(model, str):
            self._model, self.name = model, type(model).__name__
            self.identity = ""
        else:
            bare = str(model).removeprefix(_PREFIX)
            self.name, self.identity = f"{_PREFIX}{bare}", f"{_PREFIX}{bare}{sorted(options.items()) or ''}"
            self._model = _loaded(str(model), bare, options)
        tells = ("get_embedding_dimension", "get_sentence_embedding_dimension")  # the newer name, the older one
        size = next((getattr(self._model, name)() for name in tells if hasattr(self._model, name)), None)
        self.dimension: int | None = size if isinstance(size, int) else None

    def embed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Encode a batch in this thread."""
        cancel.check()
        return Embedded(self._model.encode(list(texts), batch_size=self.batch_size, show_progress_bar=False))

    async def aembed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Encode a batch in a thread."""
        return await asyncio.to_thread(self.embed, texts, cancel)

    def token_vectors(self, text: str) -> Any:
        """Return one vector a token."""
        found = self._model.encode([text], output_value="token_embeddings", show_progress_bar=False)[0]
        return found.detach().cpu().numpy() if hasattr(found, "detach") else found


def _loaded(given: str, bare: str, options: dict[str, Any]) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingDependencyError(
            f"{given!r} needs the package 'sentence-transformers'", hint="pip install 'dspex_nb[sentence-transformers]'"
        ) from error
    try:
        return SentenceTransformer(bare, **options)
    except (OSError, ValueError) as error:
        raise RetrieverError(
            f"sentence-transformers cannot load {bare!r}: {str(error).splitlines()[0][:200]}",
            hint="check the name, or give a folder that holds the model",
        ) from error
