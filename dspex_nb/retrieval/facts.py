"""Metadata as facts: one short token a key and value, so that every store that keeps a list of words can keep filters.

A token is a hash, so it needs no quoting in any store's language, whatever the metadata says. `$eq`, `$in` and `$exists` ask for
a token; `$and`, `$or` and `$not` are the store's own. An order (`$gt` and its kin) is asked of the store where it has a meaning
for it that is ours; else we find the ids that satisfy it and ask for these: each passage has a token of its id too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Generic, TypeVar

from dspex_nb.errors import FilterError
from dspex_nb.retrieval.filters import Compare, Condition, Every, Opposite, Some

Where = TypeVar("Where")
Satisfying = Callable[[Condition], Iterable[str]]
_SORTS = {int: "number", float: "number"}
_CHARACTERS = 12  # bytes: 24 hex digits; two of a billion facts meet with a probability of one in ten billion


def facts_of(given_id: str, metadata: Mapping[str, Any]) -> list[str]:
    """Return the tokens of a passage: of its id, of each key, and of each value, a list's elements one by one."""
    found, several = [id_fact(given_id)], False
    for key, value in metadata.items():
        found.append(_key_fact(key))
        if type(value) is str:  # what most are
            found.append(_hashed(f"{_begun(key)}str {value}"))
        elif isinstance(value, list):
            found += [fact(key, one) for one in value if not isinstance(one, list | dict)]
            several = True
        elif not isinstance(value, dict):
            found.append(fact(key, value))
    return list(dict.fromkeys(found)) if several else found


def fact(key: str, value: Any) -> str:
    """Return the token of a key with a value; `1` and `1.0` have the same, `1`, `"1"` and `True` different ones."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    sort = _SORTS.get(type(value)) or type(value).__name__
    return _hashed(f"{_begun(key)}{sort} {value}")


def id_fact(given_id: str) -> str:
    """Return the token of a passage's id."""
    return _hashed(f"id {given_id}")


@lru_cache(maxsize=1024)
def _key_fact(key: str) -> str:
    return _hashed(f"key {key}")


@lru_cache(maxsize=1024)
def _begun(key: str) -> str:
    return f"value {len(key)} {key} "  # the length says where the key ends, so no two facts are written alike


def _hashed(written: str) -> str:
    return blake2b(written.encode("utf-8", "surrogatepass"), digest_size=_CHARACTERS).hexdigest()


_NOTHING = _hashed("nothing")  # a token that no passage has


class Dialect(ABC, Generic[Where]):
    """How a store says conditions on a list of tokens."""

    @abstractmethod
    def holds(self, tokens: list[str]) -> Where:
        """Return the condition that a passage has at least one of the tokens."""

    @abstractmethod
    def every(self, parts: list[Where]) -> Where:
        """Return the condition that all hold."""

    @abstractmethod
    def some(self, parts: list[Where]) -> Where:
        """Return the condition that at least one holds."""

    @abstractmethod
    def opposite(self, part: Where) -> Where:
        """Return the condition that this one does not hold."""

    def lacks(self, tokens: list[str]) -> Where:
        """Return the condition that a passage has none of the tokens."""
        return self.opposite(self.holds(tokens))

    def own(self, asked: Compare, *, opposite: bool) -> Where | None:  # noqa: ARG002 - for subclasses
        """Return a comparison, or its opposite, by the store's own fields; None where tokens are asked for."""
        return None

    def order(self, asked: Compare) -> Where | None:  # noqa: ARG002 - for subclasses
        """Return an order as the store's condition; None where the store's meaning is not ours."""
        return None


class Written(Dialect[str]):
    """A dialect that is text.

    Args:
        holds: Writes the condition that the list of facts holds one of these tokens.
        joins: The words for and, or and not; "NOT " with a space where the store wants one.
        lacks: Writes the condition that it holds none of them, where the store has a word of its own for it.
    """

    def __init__(
        self,
        holds: Callable[[list[str]], str],
        joins: Sequence[str] = ("AND", "OR", "NOT "),
        lacks: Callable[[list[str]], str] | None = None,
    ) -> None:
        self._holds, self._lacks = holds, lacks
        self._and, self._or, self._not = joins

    def holds(self, tokens: list[str]) -> str:
        """Return what `holds` writes."""
        return self._holds(tokens)

    def every(self, parts: list[str]) -> str:
        """Return the parts in brackets, with the word for and between them."""
        return f"({f' {self._and} '.join(parts)})"

    def some(self, parts: list[str]) -> str:
        """Return the parts in brackets, with the word for or between them."""
        return f"({f' {self._or} '.join(parts)})"

    def lacks(self, tokens: list[str]) -> str:
        """Return what `lacks` writes, or the opposite of what `holds` does."""
        return super().lacks(tokens) if self._lacks is None else self._lacks(tokens)

    def opposite(self, part: str) -> str:
        """Return the word for not before the part in brackets."""
        return f"({self._not}({part}))"


def quoted(tokens: Iterable[str], quote: str = "'") -> str:
    """Return tokens in quotation marks with commas between them; hex digits need no escaping."""
    return ", ".join(f"{quote}{token}{quote}" for token in tokens)


def compiled(condition: Condition, dialect: Dialect[Where], satisfying: Satisfying | None, *, opposite: bool = False) -> Where:
    """Return a condition in a store's dialect. Not is brought down to the single comparisons: some stores have it only there.

    Args:
        condition: What the filter says.
        dialect: The store's.
        satisfying: Gives the ids of all passages that satisfy a condition, where the store's passages can be gone through.
        opposite: Whether the condition must not hold.

    Raises:
        FilterError: An order that the store cannot keep and that nothing can be found by.
    """
    if isinstance(condition, Opposite):
        return compiled(condition.part, dialect, satisfying, opposite=not opposite)
    if isinstance(condition, Every | Some):
        parts = [compiled(part, dialect, satisfying, opposite=opposite) for part in condition.parts]
        return dialect.every(parts) if isinstance(condition, Every) is not opposite else dialect.some(parts)
    own = dialect.own(condition, opposite=opposite)
    if own is not None:
        return own
    tokens = _tokens(condition)
    if tokens is None:
        found = dialect.order(condition)
        if found is not None:
            return dialect.opposite(found) if opposite else found
        if satisfying is None:
            raise FilterError(
                f"this store cannot keep {condition.operator} of {condition.key!r}: it compares no numbers of our metadata",
                hint='ask with {"$in": [...]}, or leave it out and filter what was found',
            )
        tokens = [id_fact(one) for one in satisfying(condition)] or [_NOTHING]
    if condition.operator == "$exists" and not condition.value:
        opposite = not opposite
    return dialect.lacks(tokens) if opposite else dialect.holds(tokens)


def has_orders(condition: Condition, dialect: Dialect[Any]) -> bool:
    """Return whether a condition holds an order that the store cannot keep, so that all passages must be gone through."""
    orders: list[Condition] = []

    def noted(asked: Condition) -> list[str]:
        orders.append(asked)
        return []

    compiled(condition, dialect, noted)
    return bool(orders)


def _tokens(asked: Compare) -> list[str] | None:
    """Return the tokens of which a passage must have one; None for an order, which no token tells."""
    if asked.operator == "$exists":
        return [_key_fact(asked.key)]
    if asked.operator == "$eq":
        return [fact(asked.key, asked.value)]
    if asked.operator == "$in":
        return [fact(asked.key, one) for one in asked.value] or [_NOTHING]
    return None
