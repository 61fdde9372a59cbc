"""What the LM cache costs, beside DSPy's and joblib's in one run: `python tests/benchmarks/bench_cache.py` prints JSON.

Times are microseconds of CPU a call unless a name says otherwise, medians over rounds; a ratio above 1 says how many times
faster ours is. `new_process`: a fresh process is served 500 distinct answers from disk, by the LM alone and by Predict; both
libraries asked a real HTTP server for them before, and no request is sent while it is measured.
"""

import http.server
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROUNDS = 3
HITS = 500
PAD = "The quick brown fox jumps over the lazy dog. " * 22  # a prompt of about 1 kB
ANSWER = "[[ ## answer ## ]]\n" + "An answer of some length. " * 16 + "\n\n[[ ## completed ## ]]"


def cpu_us(act, items):
    began = time.process_time()
    for item in items:
        act(item)
    return (time.process_time() - began) / len(items) * 1e6


# The tiers, in this process


def record(number):
    output = {"text": ANSWER + str(number), "tool_calls": [], "finish_reason": "stop", "reasoning": None}
    return {"outputs": [output], "usage": {"prompt_tokens": 250, "completion_tokens": 100}, "cost": 0.0001}


def tiers(folder, seed):
    """Put and get 1,000 answers: memory, disk, and `joblib.Memory` as it comes."""
    from dspex_nb.cache import Cache, digest, request_key
    from dspex_nb.messages import Request

    names = [digest([seed, number]) for number in range(1000)]
    memory, disk = Cache(), Cache(memory_entries=0, directory=folder / f"disk{seed}")
    disk.put(digest("first"), record(0))  # opens the store
    values = {name: record(number) for number, name in enumerate(names)}
    request = Request(
        [{"role": "system", "content": PAD[:500]}, {"role": "user", "content": PAD[:500]}],
        {"temperature": 0.7, "max_tokens": 400},
    )
    found = {
        "request_key_1kB": cpu_us(lambda _: request_key("openai/m", request), names * 10),
        "memory_put": cpu_us(lambda name: memory.put(name, values[name]), names),
        "memory_hit": cpu_us(memory.get, names * 10),
        "disk_put": cpu_us(lambda name: disk.put(name, values[name]), names),
        "disk_hit": cpu_us(disk.get, names),
        "disk_miss": cpu_us(lambda name: disk.get(name[::-1]), names),
    }
    assert disk.stats().hits_disk == len(names)
    assert memory.stats().hits_memory == 10 * len(names)
    return found | joblib_tiers(folder / f"joblib{seed}", names)


def joblib_tiers(folder, names):
    import joblib

    cached = joblib.Memory(folder, verbose=0).cache(lambda name, number: record(number))
    put = cpu_us(lambda name: cached(name, 1), names)
    return {"joblib_put": put, "joblib_hit": cpu_us(lambda name: cached(name, 1), names)}


# Hits in a new process

OURS = """
from dspex_nb.adapters import get_adapter
from dspex_nb.ambient import Session
from dspex_nb.cache import Cache
from dspex_nb.clients import connect
from dspex_nb.messages import Request
from dspex_nb.modules import Predict
from dspex_nb.scopes import Scope
client, cache = connect("openai/stub", api_base=url, api_key="sk-x", temperature=0.0), Cache(directory=folder)
session, program = Session(lm=client, adapter="chat", cache=cache), Predict("question -> answer")
def ask(text): return client.complete(Request([{"role": "user", "content": text}]), scope=Scope("r"), cache=cache).text
def predict(text): return program.call({"question": text}, session=session, scope=Scope("r")).answer
"""
DSPY = """
import dspy
dspy.configure_cache(disk_cache_dir=folder)
lm = dspy.LM("openai/stub", api_base=url, api_key="sk-x", temperature=0.0)
dspy.configure(lm=lm, adapter=dspy.ChatAdapter())
program = dspy.Predict("question -> answer")
def ask(text): return lm(messages=[{"role": "user", "content": text}])[0]
def predict(text): return program(question=text).answer
"""
CHILD = """
import json, sys, time
url, folder, pad, hits, measured = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] == "measured"
exec(sys.argv[6])
found = {}
for name, act in (("lm", ask), ("predict", predict)):
    for tier in ("disk", "memory") if measured else ("fill",):
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(hits):
            assert act(f"{name} {number}: {pad}").count("answer of some") == 16
        cpu, wall = (time.process_time() - cpu) / hits * 1e6, (time.perf_counter() - wall) / hits * 1e6
        found |= {f"{name}_{tier}_hit": cpu, f"{name}_{tier}_hit_wall": wall}
print(json.dumps(found))
"""


def child(code, url, folder, kind):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url, str(folder), PAD, str(HITS), kind, code], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


class Server:
    """Answers every chat completion alike, and counts them."""

    def __init__(self):
        self.count = 0
        server = self
        answer = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}
        usage = {"prompt_tokens": 250, "completion_tokens": 100, "total_tokens": 350}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "stub", "choices": [answer], "usage": usage}
        reply = json.dumps(body).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                server.count += 1
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(reply)}\r\n\r\n"
                self.wfile.write(head.encode() + reply)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def new_process(folder):
    """Return a round's figures for ours and DSPy's, in turns, so that load falls on both alike."""
    server, sides = Server(), {"ours": OURS, "dspy": DSPY}
    for name, code in sides.items():
        child(code, server.url, folder / name, "fill")
    assert server.count == 4 * HITS
    rounds = [{name: child(code, server.url, folder / name, "measured") for name, code in sides.items()} for _ in range(ROUNDS)]
    assert server.count == 4 * HITS  # all were hits
    return rounds


def median(rounds):
    return {name: round(statistics.median(each[name] for each in rounds), 2) for name in rounds[0]}


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inside = median([tiers(folder, seed) for seed in range(ROUNDS)])
        rounds = new_process(folder)
    ours, dspy = median([each["ours"] for each in rounds]), median([each["dspy"] for each in rounds])
    found = {
        "cache": "on: memory and disk",
        "tiers_us": inside,
        "new_process_us": {"ours": ours, "dspy": dspy},
        "dspy_over_ours": {name: round(dspy[name] / ours[name], 1) for name in ours},
        "joblib_over_ours": {what: round(inside[f"joblib_{what}"] / inside[f"disk_{what}"], 1) for what in ("put", "hit")},
        "hits": HITS,
        "rounds": ROUNDS,
        "python": platform.python_version(),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
