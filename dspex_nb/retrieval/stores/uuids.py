"""Ids for stores that take no other than UUIDs: each of ours has one, made of it, and lies beside in the metadata."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from dspex_nb.retrieval.blocks import key_of

OWN = "dspex_id"
"""The key of the metadata that says a passage's own id, in a store that knows it by a UUID."""
TAKE_ONLY = frozenset({"QdrantVectorStore", "WeaviateVectorStore"})
"""Classes, of LangChain or LlamaIndex, that take no other ids."""


def uuid_of(given_id: str) -> str:
    """Return the UUID that stands for an id: itself, if it is written as one."""
    try:
        return given_id if str(uuid.UUID(given_id)) == given_id else key_of(given_id)
    except ValueError:
        return key_of(given_id)


def with_own(metadata: Mapping[str, Any], given_id: str) -> dict[str, Any]:
    """Return metadata that says the passage's id, too."""
    return {**metadata, OWN: given_id}
