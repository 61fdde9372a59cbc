"""Ids for stores that take no other than UUIDs: each of ours has one, made of it, and lies beside in the metadata."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

OWN = "dspex_id"
"""The key of the metadata that says a passage's own id, in a store that knows it by a UUID."""
TAKE_ONLY = frozenset({"QdrantVectorStore", "WeaviateVectorStore"})
"""Classes, of LangChain or LlamaIndex, that take no other ids."""
_SPACE = uuid.UUID("8f0e3c1e-6d0b-5d0c-9a44-9d3f5d4f7a10")


def uuid_of(given_id: str) -> str:
    """Return the UUID that stands for an id: itself, if it is one."""
    try:
        return str(uuid.UUID(given_id))
    except ValueError:
        return str(uuid.uuid5(_SPACE, given_id))


def with_own(metadata: Mapping[str, Any], given_id: str) -> dict[str, Any]:
    """Return metadata that says the passage's id, too."""
    return {**metadata, OWN: given_id}
