"""`Asker`: what a reranker asks models with, and what they answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.cache import Cache
from dspex_nb.errors import RetrieverError
from dspex_nb.messages import Message, Request, Response, Usage
from dspex_nb.scopes import Scope, new_run_id


@dataclass(frozen=True, slots=True)
class Asker:
    """The model, cache and run that a reranker's questions belong to.

    Attributes:
        lm: A `clients.Client`, or None where no model is set.
        scope: The run.
        cache: Looked into first, given what is answered.
        answers: What the models answered so far.
    """

    lm: Any = None
    scope: Scope = field(default_factory=lambda: Scope(new_run_id()))
    cache: Cache | None = None
    answers: list[Response] = field(default_factory=list)

    def ask(self, messages: Sequence[Message], options: Mapping[str, Any], lm: Any = None) -> str:
        """Return what a model answers.

        Raises:
            RetrieverError: There is no model.
            LMError: The call failed.
        """
        client = getattr(lm, "client", lm) or self.lm
        if not hasattr(client, "complete"):
            raise RetrieverError("this reranker needs a language model", hint="give lm=dx.LM('…'), or dx.configure(lm=…)")
        response: Response = client.complete(Request(list(messages), options), scope=self.scope, cache=self.cache)
        self.answers.append(response)
        return response.text

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return sum((one.usage for one in self.answers), Usage())

    @property
    def cost(self) -> float | None:
        """US dollars so far, None where a price is unknown."""
        costs = [one.cost for one in self.answers]
        return None if None in costs else sum(cost or 0.0 for cost in costs)

    @property
    def cached(self) -> str | None:
        """The tier that served everything, or None if something was sent."""
        tiers = [one.cached for one in self.answers]
        return tiers[0] if tiers and all(tiers) else None
