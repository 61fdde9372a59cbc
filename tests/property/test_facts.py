"""A filter over facts means what the filter language says, whatever the metadata."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_nb.retrieval.facts import Dialect, compiled, facts_of
from dspex_nb.retrieval.filters import matches, read_filter

keys = st.sampled_from(["a", "b", "ä'\"", "$c".strip("$")])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, 1.0, 0.5, 2.0**53]), st.sampled_from(["", "0", "1", "x'"])
)
metadatas = st.dictionaries(keys, st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=3)
orders = st.one_of(st.integers(-2, 2), st.sampled_from([0.5, 2.0**53]), st.sampled_from(["", "0", "x"]))
comparisons = st.one_of(
    st.builds(lambda key, value: {key: value}, keys, scalars),
    st.builds(lambda key, name, value: {key: {name: value}}, keys, st.sampled_from(["$eq", "$ne"]), scalars),
    st.builds(
        lambda key, name, value: {key: {name: value}}, keys, st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=3)
    ),
    st.builds(lambda key, name, value: {key: {name: value}}, keys, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), orders),
    st.builds(lambda key, value: {key: {"$exists": value}}, keys, st.booleans()),
)
filters = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"$and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"$or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=6,
)


class Sets(Dialect):
    """Conditions as functions of a set of facts: a store in one line each."""

    def holds(self, tokens):
        return lambda facts: bool(facts & set(tokens))

    def every(self, parts):
        return lambda facts: all(part(facts) for part in parts)

    def some(self, parts):
        return lambda facts: any(part(facts) for part in parts)

    def opposite(self, part):
        return lambda facts: not part(facts)


@settings(max_examples=300, deadline=None)
@given(filters, st.lists(metadatas, min_size=1, max_size=4))
def test_facts_keep_every_filter(given_filter, found):
    condition = read_filter(given_filter)
    passages = {f"id{at}": one for at, one in enumerate(found)}
    asked = compiled(condition, Sets(), lambda part: [name for name, one in passages.items() if matches(part, one)])
    for name, metadata in passages.items():
        assert asked(set(facts_of(name, metadata))) == matches(condition, metadata), (given_filter, metadata)
