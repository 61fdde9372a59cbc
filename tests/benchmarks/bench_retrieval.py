"""What our interface costs over a store's own client, in one run: vectors indexed and searched, for each embedded store.

    .venv/bin/python tests/benchmarks/bench_retrieval.py                     # 100,000 vectors, all stores that are installed
    .venv/bin/python tests/benchmarks/bench_retrieval.py 3000                # fewer
    .venv/bin/python tests/benchmarks/bench_retrieval.py 3000 faiss duckdb   # these stores

Both hold the same passages in an index of their own (`native_stores.py` says how) and give back id, text, metadata and number.
Searches take turns, each for another query, so that other load falls on both; the median of the differences counts.
Who goes first alternates: the second pays for what the first left in the caches. So it does in filling, which is done again for
ten seconds, each time in new files; the medians count.
Of two indexes of a library with equal content one is quicker by some per cent, by where it lies in memory or how its graph
came out. So both are searched by both: after half of the searches they are exchanged, and the mean of the two medians counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from native_stores import DATABASES, LIBRARIES

from dspex_nb.retrieval import KINDS, retriever
from dspex_nb.retrieval.kept import KeptIndex

LENGTH, K = 64, 10
SEARCHES, LONGEST_S = 300, 10
STORES = {**LIBRARIES, **DATABASES}
FILES = ("sqlite", "sqlite-vec", "libsql", "turso", "duckdb", "milvus", "cozo", "ladybug")


def timed(call, *given):
    started = time.perf_counter()
    found = call(*given)
    return time.perf_counter() - started, found


def opened(name, folder):
    if name in LIBRARIES:
        return retriever(name, k=K)
    return retriever(name, k=K, path=folder / ("ours.db" if name in FILES else "ours"))


def turns(find, search, vectors, first):
    """Return how long the client and our search took, for one query after another."""
    pairs, ends = [], time.perf_counter() + LONGEST_S
    while len(pairs) < SEARCHES and (len(pairs) < 6 or time.perf_counter() < ends):
        query = vectors[(first + len(pairs)) * 37 % len(vectors)]
        if len(pairs) % 2:  # who comes second pays for what the first left in the caches
            ours, _ = timed(search, query)
            own, _ = timed(find, query)
        else:
            own, _ = timed(find, query)
            ours, _ = timed(search, query)
        pairs.append((own, ours))
    return pairs


def more_builds(name, folder, build_own, build_ours, left_s):
    """Build more indexes as long as there is time, and return how long both took; who comes second finds the caches warm."""
    builds, ends = [], time.perf_counter() + left_s
    while time.perf_counter() < ends:
        apart = folder / f"more{len(builds)}"
        apart.mkdir()
        index = opened(name, apart)
        if len(builds) % 2:
            own, ours = timed(build_own, apart)[0], timed(build_ours, index)[0]
        else:
            ours, own = timed(build_ours, index)[0], timed(build_own, apart)[0]
        index.close()
        builds.append((own, ours))
    return builds


def exchanged(find, index):
    """Let the client search our library's index and us the client's; False where there is no such thing."""
    if not isinstance(index, KeptIndex) or not hasattr(index, "_index") or "index" not in find.__code__.co_freevars:
        return False
    cell = find.__closure__[find.__code__.co_freevars.index("index")]
    cell.cell_contents, index._index = index._index, cell.cell_contents
    return True


def measure(name, rows, folder):
    ids, texts, metadatas, vectors = rows
    query = vectors[7]
    with tempfile.TemporaryDirectory() as warm:  # what a client does once in a process is on neither side
        STORES[name](Path(warm), tuple(one[:200] for one in rows), K)(query)
    index = opened(name, folder)

    # Both up to the first answer: some clients, and some of our indexes, put in order what is new only then.
    def build_own(folder=folder):
        find = STORES[name](folder, rows, K)
        find(query)
        return find

    def build_ours(index=index):
        index.add(texts, metadatas, ids=ids, vectors=vectors)
        return index.search(query)

    own_s, find = timed(build_own)
    ours_s, found = timed(build_ours)
    builds = [(own_s, ours_s), *more_builds(name, folder, build_own, build_ours, LONGEST_S - own_s - ours_s)]
    own_s, ours_s = (statistics.median(sides) for sides in zip(*builds, strict=True))
    same = {one.id for one in found} & {one[0] for one in find(query)}
    best = found[0]
    assert (best.id, best.text, best.metadata) == find(query)[0][:3] == (ids[7], texts[7], metadatas[7])
    halves = [turns(find, index.search, vectors, 0)]
    if exchanged(find, index):
        halves.append(turns(find, index.search, vectors, SEARCHES))
    index.close()
    own = statistics.mean(statistics.median(one for one, _ in half) for half in halves)
    extra = statistics.mean(statistics.median(ours - one for one, ours in half) for half in halves)
    ok = "ok" if extra <= max(50e-6, 0.05 * own) else "over"
    added = f"{own_s:8.2f} {ours_s:8.2f} s ({ours_s / own_s:5.2f}x)"
    print(f"{name:12} {added} {own * 1e6:9.0f} µs {extra * 1e6:+7.0f} µs ({extra / own:+7.1%}) {ok:4} {len(same)}", flush=True)


def main(count=100_000, *names):
    count = int(count)
    vectors = np.random.default_rng(1).standard_normal((count, LENGTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids, texts = [f"id{n}" for n in range(count)], [f"The text of passage {n}, about matter {n % 97}." for n in range(count)]
    metadatas = [{"title": f"Title {n}", "source": f"document{n % 500}.md", "page": n % 30} for n in range(count)]
    print(
        f"{count:,} vectors of {LENGTH} numbers, k={K}. ok: a search costs at most 50 µs or 5 % more. same: ids in both answers"
    )
    print("store        added: native, ours             search: native, ours on top            same")
    for name in names or STORES:
        if not KINDS[name].installed:
            print(f"{name:12} not installed: pip install 'dspex_nb[{KINDS[name].extra}]'")
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                measure(name, (ids, texts, metadatas, vectors), Path(folder))
            except Exception as error:  # one store that fails leaves the others
                print(f"{name:12} failed: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
