"""Rates, seats and a budget over three real processes of one home, on a real server that counts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

ASKER = """
import sys, threading
import dspex_nb as dx
from dspex_nb.errors import BudgetExceededError
lm = dx.LM("openai/m", api_base=sys.argv[1], cache=False, max_tokens=2, num_retries=0, **eval(sys.argv[2]))
def ask(number):
    try:
        lm(f"question {number}")
        print("answered", flush=True)
    except BudgetExceededError:
        print("refused", flush=True)
threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
print("ready", flush=True)
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.fixture
def askers(tmp_path):
    """Starts three processes, each with four threads that ask once."""
    started = []

    def start(url, settings, **environment):
        home = {**os.environ, "DSPEX_HOME": str(tmp_path / "home"), **environment}
        words = [sys.executable, "-c", ASKER, url, repr(settings)]
        started.extend(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=home) for _ in range(3))
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def test_a_rate_holds_over_the_sum(model_server, askers):
    server = model_server(lambda body: "Paris")
    processes = askers(server.url, {"rpm": 6})
    for process in processes:
        assert process.stdout.readline().startswith("ready")
    until(lambda: len(server.bodies) == 6)
    time.sleep(0.5)  # six more wait for the next minute
    assert len(server.bodies) == 6


def test_seats_and_a_budget_hold_over_the_sum(model_server, askers, tmp_path, monkeypatch):
    from dspex_nb.leases import Budget, budget_state, set_budget
    from dspex_nb.leases.book import Book

    lock, inside, most = threading.Lock(), 0, 0

    def answer(body):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        return "Paris"

    server = model_server(answer)
    monkeypatch.setenv("DSPEX_SESSION", "the kernel")
    book = Book(tmp_path / "home" / "leases.sqlite")
    set_budget(book, Budget(5.0))
    dollar_a_call = {"input": 0.0, "output": 500_000.0}  # of two tokens
    processes = askers(server.url, {"max_concurrency": 2, "price": dollar_a_call}, DSPEX_SESSION="the kernel")
    said = "".join(process.communicate(timeout=60)[0] for process in processes)
    assert (said.count("answered"), said.count("refused")) == (5, 7)  # threads may write into each other's lines
    assert (len(server.bodies), most) == (5, 2)
    state = budget_state(book)
    assert (state.spent, state.reserved, state.left) == (5.0, 0.0, 0.0)
    book.close()
