"""The one tree of errors."""

import inspect
import pickle

import pytest

from dspex_nb import errors
from dspex_nb.errors import AdapterParseError, DSPexError, PlanError, SignatureSyntaxError, StepError, did_you_mean


def crossed(error):
    return pickle.loads(pickle.dumps(error))


CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_in_the_tree_told_and_crosses_processes(cls):
    assert issubclass(cls, DSPexError)
    assert cls.__doc__
    assert cls.__name__.startswith("_") or cls.__name__ in errors.__doc__
    raised = cls("found this", hint="do that ")
    assert str(raised) == "found this\n→ do that"
    assert raised._render_traceback_() == [f"{cls.__name__}: found this", "→ do that"]
    again = crossed(raised)
    assert type(again) is cls
    assert (str(again), vars(again)) == (str(raised), vars(raised))


def test_without_a_hint():
    assert str(DSPexError("x")) == "x"
    assert DSPexError("x")._render_traceback_() == ["DSPexError: x"]


def test_a_place_has_a_caret():
    error = SignatureSyntaxError("bad", hint="mend", line=3, column=4, text="a -> b")
    assert str(error) == "line 3: bad\n    a -> b\n        ^\n→ mend"
    assert (error.reason, error.line, error.column) == ("bad", 3, 4)
    assert error._render_traceback_()[1:] == ["    a -> b", "        ^", "→ mend"]
    assert str(PlanError("bad")) == "bad"
    assert vars(crossed(error)) == vars(error)


def test_an_unreadable_answer_is_begun_and_kept():
    error = AdapterParseError("lacks 'a'", hint="again", answer="  " + "x" * 500)
    assert error.message == f"lacks 'a'; it begins {'x' * 80!r}"
    assert len(error.answer) == 502
    assert AdapterParseError("lacks 'a'").message == "lacks 'a'"


def test_a_step_keeps_its_cause():
    error = crossed(StepError("s", step="a", line=2, cause=ValueError("v")))
    assert (error.step, error.line, str(error.cause)) == ("a", 2, "v")


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("metrcs", ["metrics", "data"], "did you mean 'metrics'? "),
        ("mipro", ["MIPROv2"], "did you mean 'MIPROv2'? "),
        ("zzz", ["metrics"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(word, known, hint):
    assert did_you_mean(word, known) == hint
