"""`Extended`: what every retriever has that rooms above this one provide: DSPy's forms of it, its card, its search box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_nb.errors import RetrieverError

_providers: dict[str, Callable[..., Any]] = {}


def provide(name: str, make: Callable[..., Any]) -> None:
    """Set who makes `name` of a retriever (`"dspy"`, `"tool"`, `"card"`, `"search_box"`), or an `"embedder"` of a model."""
    _providers[name] = make


def provider(name: str) -> Callable[..., Any] | None:
    """Return who makes `name`, if anybody does."""
    return _providers.get(name)


class Extended:
    """Methods of every retriever; what they give is made by the room that knows how."""

    @property
    def dspy(self) -> Any:
        """The retriever as a `dspy.Retrieve`, whose passages have `long_text`: `dspy.configure(rm=retriever.dspy)`."""
        return self._made("dspy")

    def as_tool(self, name: str = "search", desc: str | None = None, k: int | None = None) -> Any:
        """Return the retriever as a tool of `react` and its kin: a `dspy.Tool` that takes a query and gives texts.

        Args:
            name: What the model calls it.
            desc: What the model is told of it.
            k: How many passages; the retriever's own number if None.
        """
        return self._made("tool", name=name, desc=desc, k=k)

    def search_box(self, query: str = "", *, k: int | None = None, filter: Any = None) -> Any:  # noqa: A002 - the API's word
        """Show a box to search in: what is typed is searched, and the passages are shown ranked, with what matched marked.

        Args:
            query: What to search first.
            k: How many passages.
            filter: The first filter; it can be changed in the box.
        """
        return self._made("search_box", query=query, k=k, filter=filter)

    def index(self, documents: Any, **options: Any) -> Any:
        """Make the index hold exactly these documents, embedding only what is new or changed: see `retrieval.indexing`."""
        from dspex_nb.retrieval.indexing import index

        return index(self, documents, **options)  # type: ignore[arg-type]  # mixed into retrievers only

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        del include, exclude
        return self._made("card") if "card" in _providers else {"text/plain": repr(self)}

    def _made(self, what: str, **options: Any) -> Any:
        if what not in _providers:
            raise RetrieverError(
                f"nobody makes the {what} of a retriever yet", hint="run `import dspex_nb as dx; dx.session()` first"
            )
        return _providers[what](self, **options)
