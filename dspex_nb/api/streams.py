"""`p.stream(…)` and `p.astream(…)`: a prediction while it is written, as events or live in the cell."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Self

from dspex_nb.errors import DSPexError
from dspex_nb.modules.streaming import AsyncEvents, Events
from dspex_nb.predictions import FieldEvent, Prediction
from dspex_nb.scopes import stopped
from dspex_nb.views.stream_views import StreamState, stream_html, stream_text


class Stream:
    """The events of one call: `dx.FieldEvent`s, and last the `dx.Prediction`. It can be read once.

    As a cell's last expression it shows itself live; elsewhere in a cell, `.show()` does.
    """

    def __init__(self, events: Events, fields: Iterable[str]) -> None:
        self._events, self._fields = events, list(fields)
        self._prediction: Prediction | None = None

    def __iter__(self) -> Iterator[FieldEvent | Prediction]:
        return self

    def __next__(self) -> FieldEvent | Prediction:
        try:
            event = next(self._events)
        except KeyboardInterrupt:
            raise stopped() from None
        if isinstance(event, Prediction):
            self._prediction = event
        return event

    @property
    def prediction(self) -> Prediction:
        """The prediction; what has not been read yet is read first.

        Raises:
            DSPexError: The stream was closed, or an error ended it.
        """
        for _ in self:
            pass
        return _reached(self._prediction)

    def close(self) -> None:
        """Stop here: the connection is closed, nothing more is written or paid for."""
        self._events.close()

    def show(self) -> Self:
        """Read it and show the fields as they are written, in a notebook at most twenty times a second; then return it."""
        with _shown(self._fields) as take:
            for event in self:
                take(event)
            take(_reached(self._prediction))  # of a stream read before, only the end is left to show
        return self

    def _ipython_display_(self) -> None:
        if self._prediction is None:
            self.show()

    def __repr__(self) -> str:
        return f"Stream of {', '.join(self._fields)}"


class AsyncStream:
    """The events of one call on the running loop: `async for event in …`, or `await ….show()` to see it live."""

    def __init__(self, events: AsyncEvents, fields: Iterable[str]) -> None:
        self._events, self._fields = events, list(fields)
        self._prediction: Prediction | None = None

    def __aiter__(self) -> AsyncIterator[FieldEvent | Prediction]:
        return self

    async def __anext__(self) -> FieldEvent | Prediction:
        event = await anext(self._events)
        if isinstance(event, Prediction):
            self._prediction = event
        return event

    async def prediction(self) -> Prediction:
        """Return the prediction; what has not been read yet is read first.

        Raises:
            DSPexError: The stream was closed, or an error ended it.
        """
        async for _ in self:
            pass
        return _reached(self._prediction)

    async def aclose(self) -> None:
        """Stop here: the connection is closed, nothing more is written or paid for."""
        await self._events.aclose()

    async def show(self) -> Self:
        """Read it and show the fields as they are written; then return it."""
        with _shown(self._fields) as take:
            async for event in self:
                take(event)
            take(_reached(self._prediction))
        return self

    def __repr__(self) -> str:
        return f"AsyncStream of {', '.join(self._fields)}: read it with `async for event in …`, or see it with `await ….show()`"


def _reached(prediction: Prediction | None) -> Prediction:
    if prediction is None:
        raise DSPexError("this stream ended without a prediction: it was closed, or failed", hint="make another: p.stream(…)")
    return prediction


@contextlib.contextmanager
def _shown(fields: Iterable[str]) -> Iterator[Any]:
    """Show a stream's state while the block feeds it events. Outside a notebook its text is printed at the end."""
    from dspex_nb.widgets import LiveView

    state = StreamState(fields)
    with LiveView(lambda: stream_html(state.info()), lambda: stream_text(state.info()), tick_s=None) as view:

        def take(event: FieldEvent | Prediction) -> None:
            state.apply(event)
            view.touch()

        try:
            yield take
        except BaseException as error:
            state.fail(str(error) or type(error).__name__)
            raise


__all__ = ["AsyncStream", "Stream"]
