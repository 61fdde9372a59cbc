"""What it costs that limits, budgets and single flight hold over all processes: prints one JSON object.

    python tests/benchmarks/bench_leases.py [ROUNDS]

Microseconds, medians over rounds that take turns, in one process with nobody to contend with, beside a call that is sent to a
stub server. `share_…` is the part of that call's time: the smaller the better.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import stub_server

COUNT = 300


def per_call_us(act, count=COUNT):
    started = time.perf_counter()
    for number in range(count):
        act(number)
    return (time.perf_counter() - started) / count * 1e6


def parts(base, folder):
    """Return what to measure, by name."""
    from dspex_nb.cache import Cache, digest
    from dspex_nb.clients import connect
    from dspex_nb.leases import Budget, NamedLeases
    from dspex_nb.leases.accounts import Account
    from dspex_nb.leases.book import Book
    from dspex_nb.messages import Request
    from dspex_nb.scopes import Scope

    scope, disk = Scope("bench"), Cache(memory_entries=0, directory=folder / "cache")
    plain = connect("openai/m", api_base=base, api_key="x", cache=False)
    kept = connect("openai/m", api_base=base, api_key="x")
    limited = connect("openai/m", api_base=base, api_key="x", cache=False, rpm=10**6, tpm=10**9, max_concurrency=8)
    book = Book(folder / "book.sqlite")
    account, leases = Account(book, "a", seats=8, rpm=10**6, tpm=10**9), NamedLeases(book)
    unlimited, budget = Account(book, "b"), Budget(1e9)
    seen = iter(range(10**9))

    def ask(client, cache=None):
        return lambda _: client.complete(
            Request([{"role": "user", "content": f"question {next(seen)}"}]), scope=scope, cache=cache
        )

    def claim(of, budget=None):
        return lambda _: of.settle(of.claim(60.0, 100, budget, 0.001), 50, 0.0005)

    return {
        "sent": ask(plain),
        "sent_with_limits": ask(limited),
        "sent_through_a_cache_with_a_folder": ask(kept, disk),
        "limits_and_their_correction": claim(account),
        "budget_and_its_correction": claim(unlimited, budget),
        "no_limit": lambda _: unlimited.budget(),
        "lease_taken_and_given_back": lambda number: leases.give_back(leases.take(digest([number]))),
    }


def main(rounds):
    with stub_server.running() as base, tempfile.TemporaryDirectory() as folder:
        import os

        os.environ["DSPEX_HOME"] = folder
        found = {}
        measured = parts(base, Path(folder))
        for _ in range(rounds + 1):
            for name, act in measured.items():
                found.setdefault(name, []).append(per_call_us(act))
        us = {name: round(statistics.median(times[1:]), 1) for name, times in found.items()}  # the first round warms up
        alone = ("limits_and_their_correction", "budget_and_its_correction", "no_limit", "lease_taken_and_given_back")
        shares = {f"share_{name}": round(us[name] / us["sent"], 3) for name in alone}
        print(json.dumps({"us": us, **shares}, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
