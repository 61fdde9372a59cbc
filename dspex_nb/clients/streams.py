"""Answers while they come: read piece by piece from a server, and gathered to the whole."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

from dspex_nb.clients.answers import Gathered
from dspex_nb.clients.calls import Call
from dspex_nb.clients.endpoint import NO_FORM, Endpoint
from dspex_nb.errors import LMError, LMInvalidRequestError
from dspex_nb.messages import Delta, Response
from dspex_nb.scopes import Scope
from dspex_nb.transport import Start, asleep, sleep


class Hearer(Protocol):
    """Hears an answer while it comes."""

    def begin(self) -> None:
        """An answer begins; what came of one before it, which broke off, is void."""

    def take(self, delta: Delta) -> None:
        """The next piece of it."""


class StreamingEndpoint(Endpoint):
    """A server whose answers are read while they come. A stream that broke off is asked for again until its first piece."""

    def _pieces(self, call: Call, scope: Scope) -> Generator[Delta | Response, None, None]:
        """Ask for a stream and yield its pieces, last the whole."""
        for attempt in itertools.count():
            gathered = Gathered()  # what a broken attempt brought unseen is not this one's
            try:
                with self._turn(call, scope) as start:
                    self._admit(attempt)
                    with _reading(start, gathered):
                        for chunk in self._wire.stream(self._body(call), timeout_s=self.settings.timeout_s, cancel=scope.cancel):
                            if delta := self._add(gathered, chunk):
                                yield delta
                        whole = self._answered(start, self._gathered(gathered))
                break
            except LMError as error:
                sleep(self._wait_s(error, attempt, begun=gathered.begun), scope.cancel)
        yield whole

    async def _apieces(self, call: Call, scope: Scope) -> AsyncGenerator[Delta | Response, None]:
        """Ask on the running loop; otherwise as `_pieces`."""
        for attempt in itertools.count():
            gathered = Gathered()  # what a broken attempt brought unseen is not this one's
            try:
                asked = self._wire.astream(self._body(call), timeout_s=self.settings.timeout_s, cancel=scope.cancel)
                # Closed here and now: a generator left to the collector would hold its socket until the loop turns.
                async with self._turn(call, scope) as start, aclosing(asked) as chunks:  # type: ignore[type-var]
                    self._admit(attempt)
                    with _reading(start, gathered):
                        async for chunk in chunks:
                            if delta := self._add(gathered, chunk):
                                yield delta
                        whole = self._answered(start, self._gathered(gathered))
                break
            except LMError as error:
                await asleep(self._wait_s(error, attempt, begun=gathered.begun), scope.cancel)
        yield whole

    def _ask(self, call: Call, scope: Scope, hearer: Hearer | None = None) -> Response:
        if scope.admit is not None:
            scope.admit()
        body = self._body(call)
        for attempt in itertools.count():
            try:
                with self._turn(call, scope) as start:
                    self._admit(attempt)
                    if hearer is not None:
                        return self._heard(body, start, scope, hearer)
                    answer = self._wire.call(body, timeout_s=self.settings.timeout_s, cancel=scope.cancel)
                    return self._answered(start, self._read(answer))
            except LMError as error:
                if hearer is not None and isinstance(error, LMInvalidRequestError) and "stream" in error.message.lower():
                    hearer = None  # some servers, and some accounts at some providers, are refused streams only
                    continue
                sleep(self._wait_s(error, attempt), scope.cancel)
        raise AssertionError("unreachable")

    def _heard(self, body: Mapping[str, Any], start: Start | None, scope: Scope, hearer: Hearer) -> Response:
        """Send a request as a stream, tell the hearer what comes, and return the whole."""
        gathered = Gathered()
        hearer.begin()
        with _reading(start, gathered):
            for chunk in self._wire.stream(body, timeout_s=self.settings.timeout_s, cancel=scope.cancel):
                if delta := self._add(gathered, chunk):
                    hearer.take(delta)
            return self._answered(start, self._gathered(gathered))

    def _add(self, gathered: Gathered, chunk: Mapping[str, Any]) -> Delta:
        try:
            return gathered.add(chunk)
        except NO_FORM as error:
            raise self._no_form(chunk, "the stream holds a piece that is not a chat completion's") from error

    def _gathered(self, gathered: Gathered) -> Response:
        try:
            return gathered.response(self.model, self._price)
        except NO_FORM as error:
            raise self._no_form(gathered.usage, "the stream's usage is not a chat completion's") from error


def in_one_piece(response: Response) -> Delta:
    """Return an answer that is there already as the one piece it comes in."""
    return Delta(response.text, (response.outputs[0].reasoning or "") if response.outputs else "")


@contextmanager
def _reading(start: Start | None, gathered: Gathered) -> Iterator[None]:
    """Read a stream within this; what was set aside for one that breaks off counts as spent, for it will be on the bill."""
    try:
        yield
    except BaseException:
        if start is not None and start.claim is not None and gathered.begun:
            start.cost = start.claim.cost
        raise
