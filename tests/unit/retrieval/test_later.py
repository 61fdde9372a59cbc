"""Facts that rows get at the first search with a filter: none is missing, whatever became of a write before it."""

import numpy as np
import pytest

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.facts import Written, facts_of
from dspex_nb.retrieval.later import LaterFacts
from dspex_nb.retrieval.metadata import metadata_of
from dspex_nb.testing.embedding import HashEmbedder


class Shelf(LaterFacts):
    """A store of the test: rows in a dict, a filter is the list of its tokens, and a text "break" breaks the connection."""

    name = "shelf"
    dialect = Written(lambda tokens: tokens)

    def _open(self):
        self.rows, self.facts, self.taken_up = {}, {}, 0

    def _create(self, dimension): ...

    def _write_bare(self, rows):
        for row in rows:
            if row.text == "break":
                raise OSError("gone")
            self.rows[row.id] = row
            self.facts.pop(row.id, None)

    def _take_up_facts(self):
        self.taken_up += 1
        for name, row in self.rows.items():
            self.facts.setdefault(name, facts_of(name, metadata_of(row.metadata)))

    def _remove(self, ids):
        for name in ids:
            del self.rows[name]

    def _held(self, ids):
        return [name for name in ids if name in self.rows]

    def _rows(self):
        return [(row.id, row.text, row.metadata) for row in self.rows.values()]

    def _size(self):
        return len(self.rows)

    def _found(self, vector, k, where):
        kept = [row for name, row in self.rows.items() if where is None or set(where) & set(self.facts.get(name, ()))]
        found = [(row.id, row.text, row.metadata, float(np.dot(row.vector, vector))) for row in kept]
        return sorted(found, key=lambda one: -one[3])[:k]


def ids(shelf, **condition):
    return {one.id for one in shelf.search("red", 9, condition or None)}


def test_rows_get_their_facts_at_the_first_search_with_a_filter_and_not_again():
    shelf = Shelf({"a": {"text": "red dust", "n": 1}, "b": {"text": "blue", "n": 2}}, embedder=HashEmbedder())
    assert (ids(shelf), shelf.taken_up) == ({"a", "b"}, 0)
    assert (ids(shelf, n=1), ids(shelf, n=2), shelf.taken_up) == ({"a"}, {"b"}, 1)
    shelf.add({"a": {"text": "red dust", "n": 2}})
    assert (ids(shelf, n=1), ids(shelf, n=2), shelf.taken_up) == (set(), {"a", "b"}, 2)


def test_a_write_that_breaks_off_leaves_no_row_without_facts():
    shelf = Shelf({"a": {"text": "red dust", "n": 1}}, embedder=HashEmbedder())
    assert ids(shelf, n=1) == {"a"}
    with pytest.raises(RetrieverError, match="gone"):
        shelf.add({"b": {"text": "red sand", "n": 1}, "c": {"text": "break", "n": 1}})
    assert ids(shelf, n=1) == {"a", "b"}
