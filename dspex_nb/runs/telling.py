"""An LM step's text as it comes: the same call, its pieces told as `TokenReceived` events by output field.

Only where the run wants tokens and the step has one answer; where a server refuses to stream, it is asked plainly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dspex_nb.ambient import Session
from dspex_nb.errors import LMError, LMInvalidRequestError
from dspex_nb.events import TokenReceived
from dspex_nb.messages import Delta, Request, Response
from dspex_nb.modules import Predict
from dspex_nb.modules.streaming import stream, wants_several
from dspex_nb.pipelines.records import Step
from dspex_nb.predictions import FieldEvent, Prediction
from dspex_nb.scopes import Scope

_Last = TypeVar("_Last", Prediction, Response)


def predicted(
    step: Step, program: Predict, values: Mapping[str, Any], *, session: Session, scope: Scope, options: dict[str, Any]
) -> Prediction:
    """Call a native program, telling its fields as they grow where the run wants that.

    Raises:
        DSPexError: As the call does.
    """
    if _tells(step, scope) and not wants_several(program, session, options):
        told = _Told(scope)
        try:
            return told.last(stream(program, values, session=session, scope=scope, **options))
        except LMError as error:
            if not told.worth_asking_plainly(error):
                raise
    return program.call(values, session=session, scope=scope, **options)


def completed(step: Step, request: Request, *, session: Session, scope: Scope, cache: Any) -> Response:
    """Send a request whose answer is text, telling the text as it grows where the run wants that.

    Raises:
        LMError: The call failed.
    """
    client = session.require_lm()
    if _tells(step, scope) and int(request.options.get("n") or client.options.get("n") or 1) == 1:
        told = _Told(scope)
        try:
            return told.last(_as_fields(client.deltas(request, scope=scope, cache=cache), step.writes[0]))
        except LMError as error:
            if not told.worth_asking_plainly(error):
                raise
    response: Response = client.complete(request, scope=scope, cache=cache)
    return response


def _tells(step: Step, scope: Scope) -> bool:
    return scope.tokens and not step.over  # under `over=`, items come side by side: their texts would be told as one


class _Told:
    """What was told of one answer."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._shown: set[str] = set()
        self._begun = False

    def last(self, events: Iterable[FieldEvent | _Last]) -> _Last:
        """Publish the pieces; returns what comes last. What was told of an answer that failed is withdrawn."""
        last: _Last | None = None
        try:
            for event in events:
                if not isinstance(event, FieldEvent):
                    last = event
                elif event.kind == "delta":
                    self._begun = True
                    self._shown.add(event.field)
                    self._publish(event.field, event.text)
                elif event.kind == "withdrawn":
                    self._withdraw(event.field)
        except BaseException:
            for name in tuple(self._shown):
                self._withdraw(name)
            raise
        assert last is not None  # noqa: S101 - a stream that ends without an error ends with the whole answer
        return last

    def worth_asking_plainly(self, error: LMError) -> bool:
        """Say whether the same request without a stream may succeed: a stream is not asked for again once it has begun.

        Some servers, and some accounts at some providers, are refused streams only.
        """
        return (self._begun and error.retryable) or (
            isinstance(error, LMInvalidRequestError) and "stream" in error.message.lower()
        )

    def _withdraw(self, name: str) -> None:
        if name in self._shown:
            self._shown.discard(name)
            self._publish(name, "", withdrawn=True)

    def _publish(self, name: str, text: str, *, withdrawn: bool = False) -> None:
        scope = self._scope
        scope.publish(TokenReceived(run_id=scope.run_id, step=scope.step, text=text, field=name, withdrawn=withdrawn))


def _as_fields(pieces: Iterable[Delta | Response], name: str) -> Iterator[FieldEvent | Response]:
    for piece in pieces:
        if isinstance(piece, Response):
            yield piece
        elif piece.text:
            yield FieldEvent("delta", name, piece.text)
