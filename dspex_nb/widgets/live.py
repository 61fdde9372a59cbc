"""A display that follows something going on: one thread draws it, at most twenty times a second."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from dspex_nb.errors import DSPexError
from dspex_nb.views.markup import error_notice, escape
from dspex_nb.widgets.bundles import bundle

_FRAME_S = 0.05
_REST = 3.0
_FIGURE_S = 0.5
_TICK_S = 0.5
_FINISH_S = 5.0
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"

Action = Callable[[], object]
Choose = Callable[[str, str], object]
Figure = Callable[[], Mapping[str, Any] | None]


class LiveView:
    """Shows `render()` and keeps it current until `finish()`; its actions go on working after that.

    In a notebook it is a widget with HTML and text to fall back on; in a terminal its text is printed once, at the end.
    Every method may be called from any thread; only the view's own thread touches the display between `show` and `finish`.

    Args:
        render: Returns the view's HTML, escaped, as `dspex_nb.views` writes it.
        text: Returns the same as text.
        actions: What each `data-dspex-action` does. It runs in a short-lived thread; an error it raises is shown in the view.
        figure: Returns a second display's mime bundle (see `views.figure_bundle`), or None while there is nothing to draw.
        extra: Returns more mime types for the saved notebook.
        choose: Takes what a reader chose, as an action and its value (a tab, an order, a filter); it must return at once.
        plot: Returns the plot for the view's `data-dspex-figure` as JSON (see `views.charts.chart_json`), empty for none.
        still: Returns the HTML that the notebook keeps, where that is more than `render` without its buttons.
        tick_s: Seconds after which the view is drawn again although nobody called `touch`, so that clocks go on; None for never.
    """

    def __init__(
        self,
        render: Callable[[], str],
        text: Callable[[], str],
        *,
        actions: Mapping[str, Action] | None = None,
        figure: Figure | None = None,
        extra: Callable[[], Mapping[str, Any]] | None = None,
        choose: Choose | None = None,
        plot: Callable[[], str] | None = None,
        still: Callable[[], str] | None = None,
        tick_s: float | None = _TICK_S,
    ) -> None:
        self._render, self._text, self._figure, self._extra = render, text, figure, extra
        self._choose, self._plot, self._still = choose, plot, still
        self._actions = dict(actions or {})
        self._tick_s = tick_s
        self._wake = threading.Event()
        self._lock, self._drawing = threading.Lock(), threading.Lock()
        self._ending = threading.Event()
        self._pending: dict[str, int] = {}
        self._fault = ""
        self._widget: Any = None
        self._display_id, self._figure_id = uuid.uuid4().hex, uuid.uuid4().hex
        self._thread: threading.Thread | None = None
        self._figure_at, self._figure_due, self._keep_due = 0.0, True, False
        self._terminal = False

    def show(self) -> Self:
        """Display it in the current cell and start following."""
        if self._thread is not None or self._terminal:
            return self
        if not _in_kernel():
            self._terminal = True
            return self
        from dspex_nb.widgets.html_view import HtmlView

        html = self._html()
        self._widget = HtmlView(html, self._take)
        self._set(html)
        _publish(self._bundle(html), self._display_id, update=False)
        if self._figure:
            # Its place in the cell must be taken now: later, from another thread, it would land in another cell.
            _publish({"text/html": "", "text/plain": ""}, self._figure_id, update=False)
        self._start()
        return self

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._pump, name="dspex-live-view", daemon=True)
        self._thread.start()

    def touch(self) -> None:
        """Say that there is something new to draw."""
        self._figure_due = True
        self._wake.set()

    def keep(self) -> None:
        """Say that the notebook should keep what is shown now, not only at the end: the work was paused, say."""
        self._keep_due = True
        self.touch()

    def go_on(self) -> None:
        """Follow again after `finish`: what had ended was resumed."""
        if self._thread is None or not self._ending.is_set():
            return
        self._thread.join(_FINISH_S)
        self._ending.clear()
        self._start()

    def finish(self) -> None:
        """Draw the last state into widget, HTML and text, and stop following. A second call does nothing.

        The widget stays connected: a button of the last state still starts its action, and what came of it is drawn.
        """
        with self._lock:
            if self._ending.is_set():
                return
            self._ending.set()
        if self._terminal:
            sys.stdout.write(self._safely(self._text) + "\n")
            return
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_FINISH_S)

    def __enter__(self) -> Self:
        return self.show()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish()

    @property
    def widget(self) -> Any:
        """The widget, None before `show` and outside a kernel."""
        return self._widget

    def _pump(self) -> None:
        while not self._ending.is_set():
            woken = self._wake.wait(self._tick_s)
            self._wake.clear()
            if self._ending.is_set():
                break
            started = time.monotonic()
            self._draw(figure=woken)
            # A view that takes long to draw is drawn less often: cells need the interpreter too.
            time.sleep(max(_FRAME_S, _REST * (time.monotonic() - started)))
        self._last()

    def _draw(self, *, figure: bool) -> None:
        # A front end that went away must not end the thread: the work goes on and may be shown again.
        with contextlib.suppress(Exception):
            html = self._html()
            self._set(html)
            if self._keep_due:
                self._keep_due = False
                _publish(self._bundle(html), self._display_id, update=True)
            now = time.monotonic()
            if self._figure and (figure or self._figure_due) and now - self._figure_at >= _FIGURE_S:
                self._figure_at, self._figure_due = now, False
                self._draw_figure()

    def _draw_figure(self) -> None:
        drawn = self._figure() if self._figure else None
        if drawn:
            _publish(dict(drawn), self._figure_id, update=True)

    def _last(self) -> None:
        with self._drawing, contextlib.suppress(Exception):
            html = self._html()
            self._set(html)
            _publish(self._bundle(html), self._display_id, update=True)
            self._draw_figure()

    def _set(self, html: str) -> None:
        """Send what changed; the plot before the HTML that has its place, so that the place is filled at once."""
        plot = self._safely(self._plot) if self._plot else ""
        if plot != self._widget.plot:
            self._widget.plot = plot
        if html != self._widget.html:
            self._widget.html = html

    def _html(self) -> str:
        html = self._safely(self._render, as_html=True)
        for name in list(self._pending):
            html = html.replace(f'data-dspex-action="{escape(name)}"', f'disabled data-dspex-action="{escape(name)}"')
        fault = self._fault
        return html + error_notice(fault) if fault else html

    def _safely(self, write: Callable[[], str], *, as_html: bool = False) -> str:
        """Return what `write` gives, or its error in words: a view that breaks must not break what it shows."""
        try:
            return write()
        except Exception as error:  # noqa: BLE001
            message = f"this view could not be drawn: {_words(error)}"
            return error_notice(message) if as_html else message

    def _bundle(self, html: str) -> dict[str, Any]:
        extra = dict(self._extra()) if self._extra else {}
        if self._widget is not None and _has_reader():
            extra[WIDGET_MIME] = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        kept = self._safely(self._still, as_html=True) if self._still else html
        return bundle(kept, self._safely(self._text), extra)

    def _take(self, action: str, value: str | None) -> None:
        """Do what a click or a written line asks for."""
        if value is None:
            self._act(action)
            return
        if self._choose is None:
            return
        try:
            self._choose(action, value)
        except Exception as error:  # noqa: BLE001 - as an action's
            self._fault = f"{action}: {_words(error)}"
        self.touch()
        if self._ending.is_set():  # nobody else draws any more
            with self._drawing, contextlib.suppress(Exception):
                self._set(self._html())

    def _act(self, name: str) -> None:
        """Start the action of that name in a thread of its own; a second click while it runs does nothing."""
        action = self._actions.get(name)
        with self._lock:
            if action is None or name in self._pending:
                return
            self._pending[name] = 1
        threading.Thread(target=self._run_action, args=(name, action), name=f"dspex-action-{name}", daemon=True).start()

    def _run_action(self, name: str, action: Action) -> None:
        try:
            action()
            self._fault = ""
        except BaseException as error:  # noqa: BLE001 - nobody else would ever see it
            self._fault = f"{name}: {_words(error)}"
        finally:
            with self._lock:
                self._pending.pop(name, None)
            self.touch()
            if self._ending.is_set() and self._thread is not None:  # nobody else draws any more
                self._thread.join(_FINISH_S)
                self._last()


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, DSPexError) else f"{type(error).__name__}: {error}"


def _in_kernel() -> bool:
    """Return whether a Jupyter kernel runs this code, so that displays can be updated and comms opened."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _has_reader() -> bool:
    """Return whether someone may sit before the notebook: who runs it unattended (nbclient, papermill) takes no input.

    What they store is exported as it is, and an exporter would prefer a widget that nobody serves to the view itself.
    """
    from IPython.core.getipython import get_ipython

    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", True))


def _publish(data: Mapping[str, Any], display_id: str, *, update: bool) -> None:
    from IPython.display import publish_display_data

    publish_display_data(dict(data), metadata={}, transient={"display_id": display_id}, update=update)
