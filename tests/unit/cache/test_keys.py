from __future__ import annotations

import json
import subprocess
import sys
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_nb.cache import digest, request_key
from dspex_nb.messages import Request

ODD = st.characters(exclude_categories=())  # lone surrogates too, which models do write
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(ODD),
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


requests = st.builds(
    Request,
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": st.text(ODD, max_size=3)}), max_size=2
    ),
    st.dictionaries(st.sampled_from(["stop", "seed", "tools"]), values, max_size=2),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([0, 1]),
)


def as_json(request):
    return json.dumps([request.messages, request.options, request.rollout, request.candidate], sort_keys=True)


@given(requests, requests)
def test_requests_share_a_key_only_if_they_are_equal(one, other):
    assert (request_key("m", one) == request_key("m", other)) == (as_json(one) == as_json(other))


@given(requests)
def test_a_copy_has_the_same_key_whatever_holds_it(request):
    options = MappingProxyType(dict(reversed(request.options.items())))
    copy = Request(tuple(reversed_everywhere(list(request.messages))), options, request.rollout, request.candidate)
    assert request_key("m", copy) == request_key("m", request)


def test_what_is_rare_has_a_key_too():
    base = Request([{"role": "user", "content": "x"}], {"logit_bias": {50256: -100}})
    more = [
        Request(base.messages, {"logit_bias": {50257: -100}}),
        Request(base.messages, {"seed": 1 << 70}),
        Request(base.messages, {"seed": (1 << 70) + 1}),
        Request([{"role": "user", "content": "\ud800"}]),
        Request([{"role": "user", "content": "\ud801"}]),
        Request(base.messages, {"stop": {"a", "b"}}),
        Request(base.messages, {"stop": {"a", "c"}}),
    ]
    keys = [request_key("m", one) for one in [base, *more]]
    assert len(set(keys)) == len(keys)
    assert keys == [request_key("m", one) for one in [base, *more]]


def test_the_key_is_the_same_in_another_process():
    code = (
        "from dspex_nb.cache import request_key; from dspex_nb.messages import Request; "
        "print(request_key('m', Request([{'role': 'user', 'content': 'x'}], {'b': {'y': 1, 'x': {3, 1, 2}}, 'a': 0.5}, 3)))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = Request([{"content": "x", "role": "user"}], {"a": 0.5, "b": {"x": {2, 3, 1}, "y": 1}}, 3)
    assert request_key("m", here) == other
