"""OpenAI's chat completions; most servers speak it, the embedded one included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dspex_nb.clients.dialects import Reader, Written


class ChatDialect:
    """Chat completions: our own form, so nothing is translated; what the server has no form for it refuses itself.

    Args:
        renames: Option names that this server spells otherwise.
        native_n: The server takes `n`.
    """

    name, form = "OpenAI's chat completions", "a chat completion"

    def __init__(self, renames: Mapping[str, str] | None = None, *, native_n: bool = True) -> None:
        self._renames = dict(renames or {})
        self.native_n = native_n

    def write(self, model: str, asked: Mapping[str, Any], *, streamed: bool) -> Written:
        """Write a chat body: the model's name is added."""
        body = {"model": model, **asked}
        for name, other in self._renames.items():
            if name in body:
                body.setdefault(other, body[name])
                del body[name]
        if "extra_body" in body:
            body.update(body.pop("extra_body"))
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Written("/chat/completions", body)

    def auth(self, key: str) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def answer(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer as it is."""
        data["choices"][0]["message"]  # what lacks it is no answer
        return data

    def failure(self, data: Mapping[str, Any]) -> int | None:
        """Say which status an error inside a 200 stands for; routers send these."""
        error = data.get("error")
        return status_in(error.get("code") if isinstance(error, dict) else None) if error else None

    def refused(self, status: int, text: str) -> int:
        """OpenAI's statuses mean what HTTP says."""
        del text
        return status

    def reader(self) -> Reader:
        """Return the reader of one stream."""
        return _ChatReader()


class _ChatReader:
    def __init__(self) -> None:
        self.done = self.over = False

    def read(self, event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        # Usage comes after the last choice, so a finished answer is whole but not over.
        self.done = self.done or any(choice.get("finish_reason") for choice in event.get("choices") or ())
        yield event


def status_in(code: Any) -> int:
    """Return an error's code if it is an HTTP error's status, else 500."""
    return code if isinstance(code, int) and code >= 400 else 500  # noqa: PLR2004 - HTTP's errors begin there
