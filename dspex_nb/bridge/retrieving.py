"""A retriever as DSPy has it: its retrieval model (`dspy.settings.rm`), its `dspy.Retrieve`, and a tool for its agents."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.dsp.utils import dotdict

from dspex_nb.passages import Passage
from dspex_nb.retrieval.base import Retriever


class Found(list[Any]):
    """DSPy's passages (each with `long_text`), and their texts as `passages`, as a `dspy.Retrieve` gives them."""

    @property
    def passages(self) -> list[str]:
        """The texts."""
        return [one.long_text for one in self]


class RetrievalModel(dspy.Retrieve):  # type: ignore[misc]
    """Searches one of our retrievers: give it to `dspy.configure(rm=…)`, or use it in a module as a `dspy.Retrieve`.

    Args:
        retriever: What is searched. Copies of a program share it.
        k: How many passages where a call does not say; the retriever's own number if None.
    """

    def __init__(self, retriever: Retriever, k: int | None = None) -> None:
        super().__init__(k=k if k is not None else getattr(retriever, "k", 3))
        self.retriever = retriever

    def forward(self, query: Any, k: int | None = None, **options: Any) -> Found:
        """Return the best passages; `filter=` and what else the retriever's search takes may be given."""
        found = self.retriever.search(query, k=self.k if k is None else k, **options)
        return Found(_dspys(one) for one in found)

    async def acall(self, query: Any, k: int | None = None, **options: Any) -> Found:
        """Return what a call does, without blocking the event loop."""
        found = await self.retriever.asearch(query, k=self.k if k is None else k, **options)
        return Found(_dspys(one) for one in found)

    def dump_state(self, *, json_mode: bool = True) -> dict[str, Any]:
        """Return how many passages; the index is not part of a saved program. DSPy's own takes no `json_mode`, and fails."""
        del json_mode
        return {"k": self.k}

    def __deepcopy__(self, memo: Any) -> RetrievalModel:
        """Copy it without the index: optimizers copy a program for each candidate."""
        del memo
        return type(self)(self.retriever, self.k)

    def __repr__(self) -> str:
        return f"RetrievalModel({self.retriever!r}, k={self.k})"


def retrieval_model(retriever: Retriever) -> RetrievalModel:
    """Return a retriever for DSPy."""
    return RetrievalModel(retriever)


def search_tool(retriever: Retriever, name: str = "search", desc: str | None = None, k: int | None = None) -> Any:
    """Return a retriever as a `dspy.Tool` that takes `query` and gives the texts it finds."""

    def search(query: str) -> list[str]:
        found = retriever.search(query, k=k) if k is not None else retriever.search(query)
        return [f"{one.title}: {one.text}" if one.title and one.title not in one.text else one.text for one in found]

    search.__name__ = name
    return dspy.Tool(
        search, name=name, desc=desc or "Search for passages about the query and return their texts, the best first.",
        arg_desc={"query": "what to look for, in a few words"},
    )  # fmt: skip


def _dspys(one: Passage) -> Any:
    return dotdict(
        {
            "long_text": one.text,
            "text": one.text,
            "id": one.id,
            "score": one.score,
            "title": one.title,
            "metadata": dict(one.metadata),
        }
    )
