"""`dx.Embedder`: an embedding model by its name, with the session's cache, record and ledger."""

from __future__ import annotations

from typing import Any

from dspex_nb.api.sessions import session
from dspex_nb.cache import Cache
from dspex_nb.retrieval import embedding
from dspex_nb.retrieval.embedders import LOCAL, backend_of
from dspex_nb.retrieval.extending import provide
from dspex_nb.scopes import Scope, new_run_id


class Embedder(embedding.Embedder):
    """An embedding model: `embedder(["one", "two"])` gives one vector of length 1 a text.

    Args:
        model: `"local"`, the embedded model (384 dimensions, no network); `"provider/model"` as in LiteLLM, e.g.
            `"openai/text-embedding-3-small"`; `"sentence-transformers/name"` or a folder; a Python function from a list of texts
            to a list of vectors; a loaded `SentenceTransformer`.
        cache: Whether vectors are kept and served again. A function's are only if it is given a `name=`.
        **options: For a server `api_key`, `api_base` (any that speaks OpenAI's API), `dimensions`, `batch_size`, `num_retries`,
            `timeout_s`, `max_concurrency`, `rpm`, `tpm`, `price`; for a function `name`, `dimension`, `batch_size`; for
            sentence-transformers what it takes itself.

    It can stand wherever DSPy expects a `dspy.Embedder`.

    Raises:
        RetrieverError: Not an embedding model, or an unknown option.
        LMNotConfiguredError: The model string names nothing known.
        MissingDependencyError: A package for it is not installed; the error ends with the command.
    """

    def __init__(self, model: Any = LOCAL, *, cache: bool = True, **options: Any) -> None:
        super().__init__(backend_of(model, **options), cache=cache)

    def _surroundings(self) -> tuple[Cache | None, Scope]:
        now = session()
        return now.cache, Scope(new_run_id(), now.bus)


provide("embedder", Embedder)
