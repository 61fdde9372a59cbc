"""The dialects of what is no chat: OpenAI's embeddings, and the rerank API that Cohere, Jina, vLLM and LiteLLM's proxy share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_nb.clients.dialects import Reader, Written
from dspex_nb.clients.openai import status_in


class _Whole:
    """A dialect whose answers come whole, never as a stream."""

    name, form, path = "", "", ""
    native_n = True

    def write(self, model: str, asked: Mapping[str, Any], *, streamed: bool) -> Written:
        """Write a body: the model's name is added."""
        del streamed
        body = {"model": model, **asked}
        body.update(body.pop("extra_body", None) or {})
        return Written(self.path, body)

    def auth(self, key: str) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer as it is, once what must be there is found."""
        raise NotImplementedError(self.form)

    def failure(self, data: Mapping[str, Any]) -> int | None:
        """Say which status an error inside a 200 stands for."""
        error = data.get("error")
        return status_in(error.get("code") if isinstance(error, dict) else None) if error else None

    def refused(self, status: int, text: str) -> int:
        """Statuses mean what HTTP says."""
        del text
        return status

    def reader(self) -> Reader:
        """Refuse: nothing of this is streamed."""
        raise NotImplementedError(self.form)


class EmbeddingsDialect(_Whole):
    """OpenAI's embeddings."""

    name, form, path = "OpenAI's embeddings", "a list of embeddings", "/embeddings"

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer as it is."""
        for one in data["data"]:
            one["embedding"][0]  # what lacks it is no embedding
        return data


class RerankDialect(_Whole):
    """The rerank API: a query and documents go, an index and a relevance score for each come back."""

    name, form, path = "the rerank API", "a list of ranked documents", "/rerank"

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer as it is."""
        for one in data["results"]:
            int(one["index"]), float(one["relevance_score"])
        return data
