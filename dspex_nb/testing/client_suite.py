"""What every client must do, as tests: subclass `ClientSuite` and give it a client.

```python
class TestMyClient(ClientSuite):
    def make_client(self, **options):
        return connect("openai/my-model", api_base="http://127.0.0.1:8000/v1", **options)
```
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_nb.cache import Cache
from dspex_nb.clients import Client
from dspex_nb.errors import Cancelled
from dspex_nb.events import Bus, LMCalled
from dspex_nb.messages import Request, Response
from dspex_nb.scopes import Scope


def ask(text: str = "Name a colour.", **options: Any) -> Request:
    """Return a short request at temperature 0."""
    return Request([{"role": "user", "content": text}], {"temperature": 0.0, "max_tokens": 8, **options})


class ClientSuite:
    """Tests of one client; every one works with a cheap model and asks it a handful of times."""

    def make_client(self, **options: Any) -> Client:
        """Return the client under test; `options` go to it."""
        raise NotImplementedError

    def test_an_answer_has_text_usage_and_the_model_string(self) -> None:
        """A call brings text, the tokens it used, and says what was asked."""
        client = self.make_client()
        response = client.complete(ask(), scope=Scope("suite"))
        assert isinstance(response, Response)
        assert response.text
        assert (response.cached, response.usage.calls, response.model) == (None, 1, client.model)
        assert response.usage.prompt_tokens > 0
        assert response.usage.completion_tokens > 0
        assert response.elapsed_s > 0

    def test_blocking_async_and_streamed_answers_agree(self) -> None:
        """Four ways to ask, one answer at temperature 0."""
        client, scope = self.make_client(), Scope("suite")

        async def ways() -> tuple[str, str]:
            response = await client.acomplete(ask(), scope=scope)
            return response.text, "".join([piece async for piece in client.astream(ask(), scope=scope)])

        blocking = client.complete(ask(), scope=scope).text
        assert asyncio.run(ways()) == (blocking, blocking)
        assert "".join(client.stream(ask(), scope=scope)) == blocking

    def test_the_second_identical_call_is_served_from_the_cache(self) -> None:
        """A hit has the same text, uses no tokens, costs nothing and says its tier."""
        client, cache, scope = self.make_client(), Cache(), Scope("suite")
        first = client.complete(ask(), scope=scope, cache=cache)
        second = client.complete(ask(), scope=scope, cache=cache)
        assert (second.text, second.cached, second.cost) == (first.text, "memory", 0.0)
        assert (second.usage.calls, second.usage.total_tokens, second.usage.cache_hits) == (0, 0, 1)

    def test_other_rollouts_and_candidates_are_other_calls(self) -> None:
        """Sampling again must not find the first sample."""
        client, cache, scope = self.make_client(), Cache(), Scope("suite")
        request = ask()
        variants = [request, Request(request.messages, request.options, 1), Request(request.messages, request.options, None, 1)]
        assert [client.complete(one, scope=scope, cache=cache).cached for one in variants] == [None, None, None]
        assert len({client.key(one) for one in variants}) == len(variants)

    def test_identical_calls_at_once_are_sent_once(self) -> None:
        """Of eight callers one pays; all have the answer."""
        client, cache = self.make_client(), Cache()
        with ThreadPoolExecutor(8) as threads:
            futures = [threads.submit(client.complete, ask("Name a fruit."), scope=Scope("suite"), cache=cache) for _ in range(8)]
            responses = [future.result() for future in futures]
        assert sum(response.usage.calls for response in responses) == 1
        assert len({response.text for response in responses}) == 1

    def test_n_gives_n_candidates(self) -> None:
        """`n` is served whether or not the far side knows it."""
        response = self.make_client().complete(ask(n=2), scope=Scope("suite"))
        assert [bool(output.text) for output in response.outputs] == [True, True]

    def test_every_call_is_published(self) -> None:
        """The event names run, step and trial, the key and the tier."""
        client, cache, bus = self.make_client(), Cache(), Bus()
        scope = Scope("suite", bus, step="classify", trial=3)
        for _ in range(2):
            client.complete(ask(), scope=scope, cache=cache)
        events = [event for event in bus.recent if isinstance(event, LMCalled)]
        assert [event.cached for event in events] == [None, "memory"]
        assert {(event.run_id, event.step, event.trial, event.key) for event in events} == {
            ("suite", "classify", 3, client.key(ask()))
        }

    def test_a_stopped_scope_asks_nothing(self) -> None:
        """After a stop, calls raise `Cancelled`."""
        client, scope = self.make_client(), Scope("suite")
        scope.cancel.cancel()
        try:
            client.complete(ask(), scope=scope)
        except Cancelled:
            return
        raise AssertionError("a stopped scope was asked all the same")

    def test_nothing_secret_is_shown(self) -> None:
        """Keys appear neither in the repr nor in the state; the state is JSON."""
        client = self.make_client(api_key="sk-very-secret-0123456789")
        shown = repr(client) + json.dumps(client.dump_state())
        assert "very-secret" not in shown
