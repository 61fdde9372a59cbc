"""Embedding models behind a server: OpenAI's API over HTTP, every other provider through LiteLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspex_nb.clients.faults import invalid_response
from dspex_nb.clients.prices import entry
from dspex_nb.clients.services import serve
from dspex_nb.messages import Usage
from dspex_nb.retrieval.embedding import Embedded
from dspex_nb.scopes import CancelToken

_BATCH = 100  # texts; the providers' own limits are 96 and more


class Remote:
    """Embeds through a server.

    Args:
        model: `"provider/model"`, or any name together with `api_base`.
        api_base: Address of a server of one's own that speaks OpenAI's API.
        batch_size: Texts in one request.
        **options: `api_key`, `headers`, `num_retries`, `timeout_s`, `max_concurrency`, `rpm`, `tpm`, `price`; anything else is
            sent, e.g. `dimensions=256`.
    """

    def __init__(self, model: str, *, api_base: str | None = None, batch_size: int = _BATCH, **options: Any) -> None:
        self.name, self.batch_size, self.parallel = model, batch_size, int(options.get("max_concurrency") or 8)
        self._made_with = {"model": model, "api_base": api_base, "batch_size": batch_size, **options}
        self._service = serve(model, "embedding", api_base=api_base, **options)
        sent = self._service.options
        self.identity = f"{self._service.identity}{sorted(sent.items())}" if sent else self._service.identity
        known = (entry(model) or {}).get("output_vector_size")
        wanted = sent.get("dimensions")
        self.dimension: int | None = wanted if isinstance(wanted, int) else known if isinstance(known, int) else None

    def embed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Ask for one batch in this thread."""
        answer = self._service.ask({"input": list(texts)}, cancel=cancel, tokens=_tokens(texts))
        return self._read(answer, len(texts))

    async def aembed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Ask for one batch on the running loop."""
        answer = await self._service.aask({"input": list(texts)}, cancel=cancel, tokens=_tokens(texts))
        return self._read(answer, len(texts))

    def _read(self, answer: Mapping[str, Any], count: int) -> Embedded:
        try:
            places = [one.get("index", at) for at, one in enumerate(answer["data"])]
            if sorted(places) != list(range(count)):
                raise ValueError(f"{len(places)} embeddings for {count} texts")  # noqa: TRY301 - one error for all that does not fit
            ordered = sorted(zip(places, answer["data"], strict=True), key=lambda pair: int(pair[0]))
            rows = [[float(number) for number in one["embedding"]] for _, one in ordered]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise invalid_response("", "", self.name, f"the answer is no list of embeddings: {error}") from None
        used = answer.get("usage") or {}
        usage = Usage(prompt_tokens=int(used.get("prompt_tokens") or used.get("total_tokens") or 0), calls=1)
        return Embedded(rows, usage.prompt_tokens, self._service.price(usage, answer))

    def __reduce__(self) -> tuple[Any, ...]:
        # A key given as an argument stays behind: the other process reads its own from the environment.
        kept = {name: value for name, value in self._made_with.items() if name not in ("api_key", "headers")}
        return (_rebuilt, (kept,))


def _rebuilt(made_with: dict[str, Any]) -> Remote:
    return Remote(**made_with)


def _tokens(texts: Sequence[str]) -> int:
    return sum(map(len, texts)) // 4
