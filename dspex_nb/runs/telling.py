"""An LM step's text as it comes: the same call, its pieces told as `TokenReceived` events by output field."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.events import TokenReceived
from dspex_nb.messages import Delta, Request, Response
from dspex_nb.modules import Predict
from dspex_nb.modules.streaming import told
from dspex_nb.pipelines.records import Step
from dspex_nb.predictions import FieldEvent, Prediction
from dspex_nb.scopes import Scope


def predicted(
    step: Step, program: Predict, values: Mapping[str, Any], *, session: Session, scope: Scope, options: dict[str, Any]
) -> Prediction:
    """Call a native program, telling its fields as they grow where the run wants that.

    Raises:
        DSPexError: As the call does.
    """
    if not _tells(step, scope):
        return program.call(values, session=session, scope=scope, **options)
    with _telling(scope) as teller:
        return told(program, values, session=session, scope=scope, tell=teller.tell, **options)


def completed(step: Step, request: Request, *, session: Session, scope: Scope, cache: Any) -> Response:
    """Send a request whose answer is text, telling the text as it grows where the run wants that.

    Raises:
        LMError: The call failed.
    """
    client = session.require_lm()
    if not _tells(step, scope):
        response: Response = client.complete(request, scope=scope, cache=cache)
        return response
    with _telling(scope) as teller:
        response = client.complete(request, scope=scope, cache=cache, hearer=_Text(step.writes[0], teller))
        if not teller.shown and response.text:  # from the cache, or not streamed: it comes whole
            teller.tell(FieldEvent("delta", step.writes[0], response.text))
        return response


def _tells(step: Step, scope: Scope) -> bool:
    return scope.tokens and not step.over  # under `over=`, items come side by side: their texts would be told as one


class _Teller:
    """Publishes what comes of one step's fields, and knows what stands."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.shown: set[str] = set()

    def tell(self, event: FieldEvent) -> None:
        if event.kind == "delta":
            self.shown.add(event.field)
            self._publish(event.field, event.text)
        elif event.kind == "withdrawn" and event.field in self.shown:
            self.shown.discard(event.field)
            self._publish(event.field, "", withdrawn=True)

    def withdraw(self) -> None:
        for name in tuple(self.shown):
            self.tell(FieldEvent("withdrawn", name))

    def _publish(self, name: str, text: str, *, withdrawn: bool = False) -> None:
        scope = self._scope
        scope.publish(TokenReceived(run_id=scope.run_id, step=scope.step, text=text, field=name, withdrawn=withdrawn))


@contextlib.contextmanager
def _telling(scope: Scope) -> Iterator[_Teller]:
    """Withdraw what was told of an answer that failed."""
    teller = _Teller(scope)
    try:
        yield teller
    except BaseException:
        teller.withdraw()
        raise


class _Text:
    """Hears an answer that is one text."""

    def __init__(self, name: str, teller: _Teller) -> None:
        self._name, self._teller = name, teller

    def begin(self) -> None:
        self._teller.withdraw()

    def take(self, piece: Delta) -> None:
        if piece.text:
            self._teller.tell(FieldEvent("delta", self._name, piece.text))
