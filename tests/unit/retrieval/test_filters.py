from __future__ import annotations

import pytest

from dspex_nb.errors import FilterError
from dspex_nb.retrieval.filters import matches, read_filter


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"$regex": "x"}, "unknown word '$regex'", "joins are $and, $or, $not"),
        ({"$ro": []}, "unknown word '$ro'", "did you mean"),
        ({"year": {"$gt3": 1}}, "unknown operator '$gt3' for 'year'", "did you mean '$gt'"),
        ({"year": {">=": 1}}, "unknown operator '>='", "operators are $eq"),
        ({"year": {}}, "the filter of 'year' is empty", "write e.g."),
        ({"year": [1, 2]}, "compares with list [1, 2]", '"$in"'),
        ({"year": {"$in": "12"}}, "$in of 'year' takes a list, found str '12'", '"$in"'),
        ({"year": {"$gt": None}}, "$gt of 'year' takes a number or a text", "write e.g."),
        ({"year": {"$gt": True}}, "$gt of 'year' takes a number or a text", "write e.g."),
        ({"year": {"$exists": 1}}, "$exists of 'year' takes True or False", "write e.g."),
        ({"year": object()}, "the filter of 'year' compares with object", "$in"),
        ({1: 2}, "unknown word 1", "write e.g."),
        ({"$and": {"a": 1}}, "$and takes a list of filters", "write e.g."),
        ({"$not": []}, "a filter is a dict, found list []", "write e.g."),
        ([], "a filter is a dict, found list []", "write e.g."),
        ("a = 1", "a filter is a dict, found str", "write e.g."),
    ],
)  # fmt: skip
def test_what_is_refused(given, message, hint):
    with pytest.raises(FilterError) as caught:
        read_filter(given)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_filter_nested_without_end():
    given = {"a": 1}
    for _ in range(10_000):
        given = {"$not": given}
    with pytest.raises(FilterError, match="nested more than 20 deep"):
        read_filter(given)


def test_nothing_asked():
    assert read_filter(None) is None
    assert read_filter({}) is None
    assert matches(None, {})


@pytest.mark.parametrize(
    ("given", "yes", "no"),
    [
        ({"x": None}, {"x": None}, {}),
        ({"x": True}, {"x": True}, {"x": 1}),
        ({"x": {"$ne": 1}}, {}, {"x": [0, 1]}),
        ({"x": {"$gte": "b"}}, {"x": "c"}, {"x": 5}),
        ({"x": {"$gt": 1, "$lt": 3}}, {"x": 2}, {"x": 3}),
        ({"x": {"$in": [True]}}, {"x": True}, {"x": 1}),
        ({"x": {"$exists": True}}, {"x": None}, {"y": 1}),
        ({"x": 1}, {"x": [0, 1.0]}, {"x": [[1]]}),
    ],
)
def test_what_it_means(given, yes, no):
    condition = read_filter(given)
    assert matches(condition, yes)
    assert not matches(condition, no)
