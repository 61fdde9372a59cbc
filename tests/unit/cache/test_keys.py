from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_nb.cache import digest, request_key
from dspex_nb.messages import Request

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def reversed_everywhere(value):
    if isinstance(value, dict):
        return {key: reversed_everywhere(item) for key, item in reversed(value.items())}
    return [reversed_everywhere(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(min_size=1), values, max_size=5))
def test_the_order_of_dictionaries_does_not_matter(options):
    message = {"role": "user", "content": "x"}
    one = Request([message], options)
    other = Request([reversed_everywhere(message)], reversed_everywhere(options))
    assert request_key("m", one) == request_key("m", other)


@given(values, values)
def test_different_values_have_different_digests(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == same


def test_everything_that_changes_the_answer_changes_the_key():
    base = Request([{"role": "user", "content": "x"}], {"temperature": 1.0})
    others = [
        Request([{"role": "system", "content": "x"}], base.options),
        Request(base.messages, {"temperature": 0.5}),
        Request(base.messages, base.options, rollout=1),
        Request(base.messages, base.options, rollout=1, candidate=1),
        Request(base.messages, base.options, candidate=1),
    ]
    assert len({request_key("m", one) for one in [base, *others]} | {request_key("n", base)}) == 7


def test_a_lone_surrogate_has_a_key_and_an_object_has_none():
    assert len(digest({"text": "\ud800"})) == 64
    with pytest.raises(TypeError, match="JSON-able"):
        digest({"x": object()})
