"""The table of trials, filtered, sorted and paged in the kernel."""

import pytest

from dspex_nb.views.studies import trials_page
from dspex_nb.views.studies.trial_tables import columns_of

from .making import snapshot, trial

ROWS = [
    trial(0, 0.3, kind="start", info={"label": "zero-shot"}),
    trial(1, 0.9, kind="minibatch", parent=0, info={"label": "2 bootstrapped demos", "demos": 2}),
    trial(2, None, status="failed", errors=3, info={"label": "odd <b>"}),
    trial(3, 0.7, parent=1, cost=None),
]
FOUND = snapshot(ROWS)


def numbers(**how):
    page = trials_page(FOUND, **how)
    return FOUND.trials.number[page.rows].tolist()


def test_newest_first_and_what_has_no_value_last_either_way():
    assert numbers() == [3, 2, 1, 0]
    assert numbers(sort="score") == [1, 3, 0, 2]
    assert numbers(sort="score", descending=False) == [0, 3, 1, 2]
    assert numbers(sort="best") == [3, 0, 1, 2]
    assert numbers(sort="label", descending=False)[-1] == 0
    assert numbers(sort="no such column") == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("score>0.5", [3, 1]), ("score>=0.9", [1]), ("score<0.5", [0]), ("kind:minibatch", [1]), ("kind!=minibatch", [3, 2, 0]),
        ("errors>0", [2]), ("failed", [2]), ("bootstrapped demos", [1]), ('"2 boot"', [1]), ("parent=1", [3]), ("trial<2", [1, 0]),
        ("2", [2, 1]), ("score>0.5 kind:candidate", [3]), ("", [3, 2, 1, 0]), ('"unclosed', []), ("time>1", [3, 2, 1, 0]),
    ],
)  # fmt: skip
def test_filters(query, kept):
    page = trials_page(FOUND, query=query)
    assert FOUND.trials.number[page.rows].tolist() == kept
    assert page.problem == ""


@pytest.mark.parametrize(("query", "says"), [("scor>0.5", "did you mean 'score'"), ("score>much", "needs a number after '>'")])
def test_what_a_filter_does_not_mean_is_said_and_hides_nothing(query, says):
    page = trials_page(FOUND, query=query)
    assert says in page.problem
    assert page.found == 4


def test_pages():
    many = snapshot([trial(n, n / 100) for n in range(30)])
    page = trials_page(many, page=1, size=12)
    assert many.trials.number[page.rows].tolist() == list(range(17, 5, -1))
    assert (page.pages, page.total) == (3, 30)
    assert trials_page(many, page=99, size=12).page == 2
    assert trials_page(many, query="score>0.25", page=2, size=12).page == 0


def test_columns_that_hold_nothing_are_left_out():
    plain = snapshot([trial(0, 0.5, cost=None, prompt_tokens=0, completion_tokens=0)])
    assert [column.field for column in columns_of(plain)] == ["number", "label", "kind", "score", "elapsed_s"]
    assert {"parent", "demos", "errors", "cost"} <= {column.field for column in columns_of(FOUND)}
