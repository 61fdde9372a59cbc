"""What our interface costs over a store's own client, in one run: vectors indexed and searched, for each embedded store.

    .venv/bin/python tests/benchmarks/bench_retrieval.py                     # 100,000 vectors, all stores that are installed
    .venv/bin/python tests/benchmarks/bench_retrieval.py 3000                # fewer
    .venv/bin/python tests/benchmarks/bench_retrieval.py 3000 faiss duckdb   # these stores

Three things, each by turns of two sides and the median of their differences:

- added: a user's own index (`native_libraries.py`, `native_tables.py`, `native_collections.py`) is filled, and ours, with the
  same passages and settings, up to the first answer to a search; again and again in new files.
- interface: our search, and the bare client's on the same index, the one that our retriever filled. Both give id, text, metadata
  and number. This is what our lines cost, and the aim is at most 50 µs or 5 %.
- layout: the bare client on our index, and on the user's own. This is what comes of how we lay passages out, and of chance: of two
  indexes with equal content one is quicker by some per cent, by where it lies in memory or how its graph came out. So it is the
  median over several pairs of indexes, with the lowest and the highest of them.

What it prints are the rows of the table in docs/retrievers.md.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from native_collections import COLLECTIONS
from native_libraries import LIBRARIES
from native_tables import TABLES

from dspex_nb.retrieval import KINDS, retriever

LENGTH, K = 64, 10
SEARCHES, LONGEST_S = 200, 5  # for each pair of indexes
BUILDS, QUICK_BUILDS, QUICK_S, BUILDING_S = 3, 7, 1.5, 180
STORES = {**LIBRARIES, **TABLES, **COLLECTIONS}
HEAD = """| store | pairs | added, s: client, ours | ours to client's | a search: client | our interface on top | within | our layout on top | within |
|---|---|---|---|---|---|---|---|---|"""
FILES = ("sqlite", "sqlite-vec", "libsql", "turso", "duckdb", "milvus", "cozo", "ladybug")


class Measured(NamedTuple):
    """Of one pair of indexes: seconds that filling took, and pairs of seconds that searches took."""

    filled: tuple[float, float]  # the user's, ours
    interface: list[tuple[float, float]]  # the bare client, ours: on our index
    layout: list[tuple[float, float]]  # the bare client on the user's index, on ours


def timed(call, *given):
    started = time.perf_counter()
    found = call(*given)
    return time.perf_counter() - started, found


def in_turn(one, other, *, other_first):
    """Return what two calls took and gave, in this order, whichever is first."""
    if other_first:
        after = timed(other)
        return timed(one), after
    return timed(one), timed(other)


def turns(one, other, queries):
    """Return how long two ways to search took, each for another query; in the end both were asked all of them.

    Not for the same one: the second would find all in the caches. Who goes first alternates.
    """
    pairs, ends = [], time.perf_counter() + LONGEST_S
    for at in range(len(queries)):
        if at >= 4 and time.perf_counter() > ends:
            break
        mine, yours = queries[at], queries[at ^ 1]
        (first, _), (second, _) = in_turn(lambda: one(mine), lambda: other(yours), other_first=at & 2)  # noqa: B023
        pairs.append((first, second))
    return pairs


def shut(held):
    """Close what a client opened, where it has such a thing."""
    getattr(held, "close", lambda: None)()


def opened(name, folder):
    if name in LIBRARIES:
        return retriever(name, k=K)
    return retriever(name, k=K, path=folder / ("ours.db" if name in FILES else "ours"))


def same(found, told):
    assert [(one.id, one.text, dict(one.metadata)) for one in found] == [one[:3] for one in told], (found, told)
    assert np.allclose([one.raw_score for one in found], [one[3] for one in told], atol=1e-5)


def measure(name, rows, folder, at, queries):
    """Build a pair of indexes and search them."""
    native = STORES[name]
    ids, texts, metadatas, vectors = rows
    index = opened(name, folder)

    def build_own():
        held = native.fill(folder, rows)
        find = native.find(held, rows, K)
        find(queries[0])  # some clients, and some of our indexes, put in order what is new only then
        return held, find

    def build_ours():
        index.add(texts, metadatas, ids=ids, vectors=vectors)
        return index.search(queries[0])

    (own_s, (held, find)), (ours_s, found) = in_turn(build_own, build_ours, other_first=at % 2)
    bare = native.find_ours(index, rows, K)
    same(found, bare(queries[0]))
    assert (found[0].id, found[0].text, found[0].metadata) == find(queries[0])[0][:3]
    measured = Measured((own_s, ours_s), turns(bare, index.search, queries), turns(find, bare, queries))
    index.close()
    shut(held)
    return measured


def measured_pairs(name, rows, queries):
    """Measure several pairs of indexes, more of what is quickly built, fewer of what takes minutes."""
    with tempfile.TemporaryDirectory() as warm:  # what a client does once in a process is on neither side
        few = tuple(one[:500] for one in rows)
        held = STORES[name].fill(Path(warm), few)
        STORES[name].find(held, few, K)(queries[0])
        shut(held)
    found, started, wanted = [], time.perf_counter(), BUILDS
    while len(found) < wanted:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(name, rows, Path(folder), len(found), queries))
        spent = time.perf_counter() - started
        if spent + spent / len(found) > BUILDING_S:
            break
        wanted = QUICK_BUILDS if sum(found[0].filled) < QUICK_S else BUILDS
    return found


def median_extra(pairs):
    return statistics.median(other - one for one, other in pairs)


def said(extras, extra, base):
    """Return what is on top, in microseconds and per cent, and between what and what it lies in the single pairs of indexes."""
    return f"{extra * 1e6:+,.0f} µs ({extra / base:+.1%}; {min(extras) * 1e6:+,.0f} to {max(extras) * 1e6:+,.0f})"


def is_within(extra, base):
    return "yes" if extra <= max(50e-6, 0.05 * base) else "no"


def row_of(name, found):
    """Return a row of the table in docs/retrievers.md."""
    own_s, ours_s = (statistics.median(sides) for sides in zip(*(one.filled for one in found), strict=True))
    ratio = statistics.median(ours / own for own, ours in (one.filled for one in found))
    searched = [pair for one in found for pair in one.interface]
    base, interface = statistics.median(bare for bare, _ in searched), median_extra(searched)
    layouts = [median_extra(one.layout) for one in found]
    layout = statistics.median(layouts)
    cells = [
        name,
        str(len(found)),
        f"{own_s:.2f}, {ours_s:.2f}",
        f"{ratio:.2f}x",
        f"{base * 1e6:,.0f} µs",
        said([median_extra(one.interface) for one in found], interface, base),
        is_within(interface, base),
        said(layouts, layout, base),
        is_within(layout, base),
    ]
    return f"| {' | '.join(cells)} |"


def main(count=100_000, *names):
    count = int(count)
    vectors = np.random.default_rng(1).standard_normal((count, LENGTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids, texts = [f"id{n}" for n in range(count)], [f"The text of passage {n}, about matter {n % 97}." for n in range(count)]
    metadatas = [{"title": f"Title {n}", "source": f"document{n % 500}.md", "page": n % 30} for n in range(count)]
    queries = [vectors[(at * 37 + 7) % min(count, 400)] for at in range(SEARCHES)]
    print(f"{count:,} vectors of {LENGTH} numbers, k={K}. within: at most 50 µs or 5 % of a search\n")
    print(HEAD)
    for name in names or STORES:
        if not KINDS[name].installed:
            print(f"{name:12} not installed: pip install 'dspex_nb[{KINDS[name].extra}]'")
            continue
        try:
            print(row_of(name, measured_pairs(name, (ids, texts, metadatas, vectors), queries)), flush=True)
        except Exception as error:  # one store that fails leaves the others
            print(f"{name:12} failed: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
