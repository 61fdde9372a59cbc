"""How results and running work reach the notebook; outside one, nothing is shown and nothing is needed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

from dspex_nb.events import Event
from dspex_nb.scopes import Scope

Figure = Callable[[], Mapping[str, Any] | None]


def shell() -> Any:
    """Return IPython's shell, None outside IPython."""
    core = sys.modules.get("IPython.core.getipython")
    return core.get_ipython() if core is not None else None


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel, which can show live views."""
    return getattr(shell(), "kernel", None) is not None


def show(html: str, text: str, extra: Mapping[str, Any] | None = None) -> None:
    """Display a view that does not change: HTML in a notebook, text elsewhere."""
    from dspex_nb.widgets import bundle

    if shell() is None:
        sys.stdout.write(text + "\n")
        return
    from IPython.display import publish_display_data

    publish_display_data(bundle(html, text, extra))


def show_figure(drawn: Mapping[str, Any] | None) -> None:
    """Display a figure's mime bundle, in a notebook only."""
    if drawn and in_notebook():
        from IPython.display import publish_display_data

        publish_display_data(dict(drawn))


class ShownOnce:
    """Keeps a cell from showing one thing twice: once by the call that made it, once as the cell's value."""

    _shown_in: int | None = None

    def mark_shown(self) -> None:
        """Remember that the cell now running has shown this."""
        self._shown_in = getattr(shell(), "execution_count", None)

    def _ipython_display_(self) -> None:
        if self._shown_in is None or self._shown_in != getattr(shell(), "execution_count", None):
            self.show()

    def show_once(self) -> None:
        """Display it unless the cell now running has shown it."""
        self._ipython_display_()
        self.mark_shown()

    def show(self) -> None:
        """Display it."""
        raise NotImplementedError


class Watch:
    """Follows one run's events: feeds a view's state, keeps a live display up to date, calls `on_progress`.

    Used as a context manager around the work; the display stays with its final picture.

    Args:
        scope: The run to follow.
        state: Takes events by `apply`; None where someone else feeds the state that `html` draws.
        html: Draws the view.
        text: Draws it as text.
        live: Whether to display; nothing is shown outside a notebook.
        on_progress: Called with each event of the run.
        actions: Names of the view's buttons to what they do.
        figure: A second display below: a figure's mime bundle, or None while there is nothing to draw.
        choose: Takes what a reader chose, as an action and its value.
        still: Draws the view for the saved notebook, where that is another one.
    """

    def __init__(
        self,
        scope: Scope,
        state: Any,
        html: Callable[[], str],
        text: Callable[[], str],
        *,
        live: bool = True,
        on_progress: Callable[[Event], None] | None = None,
        actions: Mapping[str, Callable[[], object]] | None = None,
        figure: Figure | None = None,
        choose: Callable[[str, str], object] | None = None,
        still: Callable[[], str] | None = None,
    ) -> None:
        self._scope, self._state, self._on_progress = scope, state, on_progress
        self._subscribed: list[Callable[[], None]] = []
        self._view: Any = None
        if live and in_notebook():
            from dspex_nb.widgets import LiveView

            self._view = LiveView(html, text, actions=actions, figure=figure, choose=choose, still=still)

    @property
    def live(self) -> bool:
        """Whether something is displayed."""
        return self._view is not None

    def __enter__(self) -> Self:
        if self._view is not None or (self._on_progress is not None and self._state is not None):
            self._subscribed.append(self._scope.bus.subscribe(self._take, quick=True))
        if self._on_progress is not None:
            self._subscribed.append(tell_user(self._scope, self._on_progress))
        if self._view is not None:
            self._view.show()
        return self

    def __exit__(self, *_: object) -> None:
        for unsubscribe in self._subscribed:
            unsubscribe()
        if self._view is not None:
            self._view.finish()

    def _take(self, event: Event) -> None:
        if event.run_id != self._scope.run_id:
            return
        if self._state is not None:
            self._state.apply(event)
        if self._view is not None:
            self._view.touch()


def tell_user(scope: Scope, on_progress: Callable[[Event], object]) -> Callable[[], None]:
    """Have a user's function called with each event of a run; returns what ends that.

    A function that raises is not called again and a warning says so: neither the run nor what else follows it suffers.
    """

    def tell(event: Event) -> None:
        if event.run_id != scope.run_id:
            return
        try:
            on_progress(event)
        except Exception as error:
            warnings.warn(
                f"on_progress= raised {type(error).__name__}: {error}; it is not called again, the run goes on",
                RuntimeWarning, stacklevel=2,
            )  # fmt: skip
            raise  # the bus drops it

    return scope.bus.subscribe(tell)
