"""A live view outside and inside a real kernel."""

import time

import nbformat
import pytest
from nbclient import NotebookClient

from dspex_nb.errors import DSPexError
from dspex_nb.widgets import LiveView, bundle
from dspex_nb.widgets.html_view import HtmlView, answer_while_busy

SETUP = """
import threading, time
from dspex_nb.widgets import LiveView
from dspex_nb.views.markup import frame, button
n = [0]
def make(**more):
    return LiveView(lambda: frame(f"n={n[0]}", button("stop", "Stop")), lambda: f"n={n[0]}", **more)
"""


def execute(*cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook


def widget_htmls(notebook):
    """Return which `n=…` the notebook's widgets show."""
    states = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    return [f"n={html.split('n=')[1].split('<')[0]}" for one in states if "n=" in (html := one["state"].get("html", ""))]


def test_a_bundle_has_no_buttons_and_keeps_its_text():
    made = bundle(
        '<p>x</p><input type="text" data-dspex-action="filter"><button type="button" data-dspex-action="stop">Stop</button>',
        "x",
        {"text/plain": "no", "text/vnd.mermaid": "m"},
    )
    assert made == {"text/html": "<p>x</p>", "text/plain": "x", "text/vnd.mermaid": "m"}


def test_without_a_kernel_only_the_text_is_printed_once(capsys):
    view = LiveView(lambda: "<p>html</p>", lambda: "as text").show()
    view.touch()
    assert capsys.readouterr().out == ""
    view.finish()
    view.finish()
    assert capsys.readouterr().out == "as text\n"


def wait_for(condition, seconds=3.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_actions_run_in_their_own_thread_and_their_errors_are_shown():
    def fail():
        raise DSPexError("cannot stop", hint="wait <b>")

    view = LiveView(lambda: '<button data-dspex-action="bad"></button>', lambda: "", actions={"bad": fail})
    view._act("bad")
    view._act("unknown")
    wait_for(lambda: "cannot stop" in view._html())
    assert "→ wait &lt;b&gt;" in view._html()


def test_a_button_is_disabled_while_its_action_runs():
    import threading

    go, calls = threading.Event(), []
    view = LiveView(
        lambda: '<button data-dspex-action="stop"></button>', lambda: "", actions={"stop": lambda: (calls.append(1), go.wait(5))}
    )
    view._act("stop")
    view._act("stop")
    assert 'disabled data-dspex-action="stop"' in view._html()
    go.set()
    wait_for(lambda: "disabled" not in view._html())
    assert calls == [1]


@pytest.mark.notebook
def test_a_button_works_after_the_end_and_what_came_of_it_is_drawn():
    notebook = execute(
        SETUP,
        "def adopt():\n    n[0] = 42\nview = make(actions={'adopt': adopt})\nwith view:\n    pass",
        "view.widget._handle_custom_msg({'action': 'adopt'}, [])\ntime.sleep(0.3)",
    )
    shown = notebook.cells[1].outputs[0]
    assert "n=42" in shown.data["text/html"]
    assert widget_htmls(notebook) == ["n=42"]


def test_a_view_that_cannot_be_drawn_says_so():
    assert "this view could not be drawn: ZeroDivisionError" in LiveView(lambda: str(1 / 0), lambda: "")._html()


@pytest.mark.parametrize("route", [None, lambda other, shape: None])
def test_the_private_route_is_left_alone_where_its_shape_is_unknown(route):
    class Comm:
        pass

    comm = Comm()
    comm._reply_subshell_for = route
    assert not answer_while_busy(comm)
    assert comm._reply_subshell_for is route
    assert not answer_while_busy(None)


def test_the_private_route_is_replaced_where_it_is_the_known_one():
    class Comm:
        def _reply_subshell_for(self, data, default):
            return "busy"

    comm = Comm()
    assert answer_while_busy(comm)
    assert comm._reply_subshell_for({}, "own") == "own"


def test_a_click_reaches_its_action():
    heard = []
    widget = HtmlView("<p></p>", lambda action, value: heard.append((action, value)))
    widget._handle_custom_msg({"action": "stop"}, [])
    widget._handle_custom_msg({"action": "plot", "value": "cost"}, [])
    widget._handle_custom_msg({"action": "page", "value": 3}, [])
    widget._handle_custom_msg({"action": 3}, [])
    widget._handle_custom_msg("junk", [])
    assert heard == [("stop", None), ("plot", "cost"), ("page", None)]
    assert "eval(" not in widget._esm


def test_what_is_chosen_is_no_action_and_an_action_no_choice():
    chosen, done = [], []
    view = LiveView(lambda: "", lambda: "", actions={"stop": lambda: done.append(1)}, choose=lambda *said: chosen.append(said))
    view._take("plot", "cost")
    view._take("stop", "now")
    assert chosen == [("plot", "cost"), ("stop", "now")]
    assert done == []
    view._take("stop", None)
    wait_for(lambda: done == [1])
    LiveView(lambda: "", lambda: "")._take("plot", "cost")


@pytest.mark.notebook
def test_a_view_has_a_plot_keeps_what_it_is_told_to_and_goes_on_after_its_end():
    notebook = execute(
        SETUP,
        "chosen = []\nview = make(choose=lambda *said: chosen.append(said), plot=lambda: f'[{n[0]}]', still=lambda: f'kept {n[0]}')\n_ = view.show()",
        "n[0] = 5; view.keep(); time.sleep(0.4)\nprint(view.widget.plot)",
        "n[0] = 6; view.finish(); n[0] = 7\nview.widget._handle_custom_msg({'action': 'plot', 'value': 'x'}, [])\nprint(view.widget.plot, 'n=7' in view.widget.html, chosen)",
        "view.go_on(); n[0] = 8; view.touch(); time.sleep(0.4)\nprint(view.widget.plot, 'n=8' in view.widget.html); view.finish()",
    )
    assert notebook.cells[2].outputs[0].text.strip() == "[5]"
    assert notebook.cells[3].outputs[0].text.strip() == "[7] True [('plot', 'x')]"
    assert notebook.cells[4].outputs[0].text.strip() == "[8] True"
    assert notebook.cells[1].outputs[0].data["text/html"] == "kept 8"


@pytest.mark.notebook
def test_in_a_saved_notebook_the_last_state_stays():
    notebook = execute(
        SETUP,
        "with make() as view:\n    for n[0] in range(5):\n        view.touch(); time.sleep(0.03)\n    n[0] = 42",
        "late = make(figure=lambda: {'text/html': f'figure {n[0]}', 'text/plain': 'figure'}).show()\nthreading.Timer(0.3, lambda: (n.__setitem__(0, 7), late.finish())).start()",
        "time.sleep(1.0)",
        "bad = LiveView(lambda: 1/0, lambda: 1/0)\n_ = bad.show(); bad.finish()",
    )
    (shown,) = notebook.cells[1].outputs
    assert "n=42" in shown.data["text/html"]
    assert shown.data["text/plain"] == "n=42"
    assert "<button" not in shown.data["text/html"]
    assert set(shown.data) == {"text/html", "text/plain"}, "an exporter would show a widget that nobody serves"
    assert "n=42" in widget_htmls(notebook)
    updated, figure = notebook.cells[2].outputs[:2]
    assert "n=7" in updated.data["text/html"]
    assert figure.data["text/html"] == "figure 7"
    assert notebook.cells[3].outputs == []
    assert "could not be drawn" in notebook.cells[4].outputs[0].data["text/plain"]


def test_an_error_of_a_choice_is_shown_and_an_unknown_message_does_nothing():
    def fail(action, value):
        raise DSPexError(f"no {action} {value}", hint="there are 3")

    view = LiveView(lambda: "<p></p>", lambda: "", choose=fail)
    view._take("nothing", None)
    assert "no nothing" not in view._html()
    view._take("page", "9")
    assert "no page 9" in view._html()


@pytest.mark.notebook
def test_a_saved_notebook_gets_the_still_picture():
    cell = "v = LiveView(lambda: '<p>live</p>', lambda: 'text', still=lambda: '<p>still</p>').show()\nv.finish()"
    (output,) = execute(SETUP, cell).cells[1].outputs
    assert output["data"]["text/html"] == "<p>still</p>"
