from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from dspex_nb.ambient import Session
from dspex_nb.cache import Cache
from dspex_nb.errors import RetrieverError
from dspex_nb.events import Bus, StepEnded
from dspex_nb.pipelines import build, native, read_cell
from dspex_nb.routing import plan
from dspex_nb.runs import items
from dspex_nb.runs.scheduler import execute
from dspex_nb.runs.step_cache import StepCache, noted
from dspex_nb.scopes import Scope

CALLS: list = []


class Item(BaseModel):
    name: str


@pytest.fixture
def session(tmp_path):
    CALLS.clear()
    return Session(cache=Cache(directory=None), steps=StepCache(tmp_path / "steps"))


def run(body, session, names, **inputs):
    spec = read_cell("p", body, names)
    scope = Scope("run", Bus(keep=1000))
    done = execute(spec, plan(spec, session), inputs, session=session, scope=scope)
    return done, [(event.step, event.status) for event in scope.bus.recent if isinstance(event, StepEnded)]


def counted(value):
    def f(x):
        seen(x)
        return value

    return f


def seen(x):
    CALLS.append(x)


def twice(value, session, option="cache=True", **inputs):
    body = f"x: int\ny = native(f, x=x, {option})"
    f = keyable(value)
    first, _ = run(body, session, {"f": f}, **(inputs or {"x": 1}))
    again, events = run(body, session, {"f": keyable(value)}, **(inputs or {"x": 1}))
    return first, again, events


class Source:
    """Gives a value and counts; its key is its name, as a retriever's is its version."""

    def __init__(self, value, version="1"):
        self.value, self.version = value, version

    def search(self, x):
        CALLS.append(x)
        return self.value


def keyable(value):
    source = Source(value)

    def f(x):
        return source.search(x)

    return f


def test_a_pure_step_is_not_run_again(session):
    first, again, events = twice([1, (2, "b")], session)
    assert first.outputs == again.outputs == {"y": [1, (2, "b")]}
    assert CALLS == [1]
    assert events == [("y", "cached")]
    assert (again.step_results["y"].status, again.step_results["y"].cached) == ("cached", "steps")
    assert (session.steps.hits, session.steps.misses) == (1, 1)


def test_a_step_not_known_to_be_pure_runs_each_time(session):
    for option in ("retry=0", "cache=False", 'ttl="1h"'):
        CALLS.clear()
        twice(1, session, option)
        assert CALLS == [1, 1]
    body = 'x: int\ny = native(f, x=x)\ncache(ttl="1h")'
    for _ in range(2):
        run(body, session, {"f": keyable(1)}, x=5)
    assert CALLS[-2:] == [5, 5]


def test_a_pure_function_takes_its_ttl_from_the_directive(session):
    f = keyable(1)
    f.__dspex_pure__ = True
    body = 'x: int\ny = native(f, x=x)\ncache(ttl="{}")'
    run(body.format("1h"), session, {"f": f}, x=1)
    run(body.format("1h"), session, {"f": f}, x=1)
    assert CALLS == [1]
    time.sleep(0.02)
    run(body.format("10ms"), session, {"f": f}, x=1)
    assert CALLS == [1, 1]


def test_inputs_options_and_code_are_the_key(session):
    body = "x: int\ny = native(f, x=x, cache=True)"
    for x in (1, 2, 1.0, True, "1"):
        run(body, session, {"f": keyable(0)}, x=x)
    assert len(CALLS) == 5
    run("x: int\ny = native(f, 'x -> a: int', cache=True)", session, {"f": keyable(0)}, x=1)
    assert len(CALLS) == 6
    run(body, session, {"f": lambda x: x}, x=1)
    assert session.steps.hits == 0


def test_frames_and_arrays_come_back_equal(session):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    _, again, _ = twice({"frame": frame, "array": np.arange(3)}, session)
    pd.testing.assert_frame_equal(again.outputs["y"]["frame"], frame)
    np.testing.assert_array_equal(again.outputs["y"]["array"], np.arange(3))
    assert CALLS == [1]
    assert not any(path.suffix in (".pkl", ".pickle") for path in session.steps.directory.rglob("*"))


def test_frames_and_arrays_are_kept_where_the_annotation_says_so(session):
    def table(n: int) -> pd.DataFrame:
        return pd.DataFrame({"a": range(n)})

    def doubled(frame: pd.DataFrame) -> np.ndarray:
        return frame.a.to_numpy() * 2

    body = "n: int\nframe = native(table, cache=True)\nb = native(doubled, cache=True)"
    for _ in range(2):
        done, _ = run(body, session, {"table": table, "doubled": doubled}, n=3)
        np.testing.assert_array_equal(done.outputs["b"], [0, 2, 4])
    assert session.steps.hits == 2


def test_what_cannot_be_cached_runs_and_says_why(session):
    import threading

    _, again, events = twice(threading.Lock(), session)
    assert CALLS == [1, 1]
    assert events == [("y", "done")]
    assert "not cached: it gave a _thread.lock" in again.step_results["y"].note
    lock = threading.Lock()
    done, _ = run("x: int\ny = native(f, x=x, cache=True)", session, {"f": lambda x: lock and x}, x=1)
    assert "reads 'lock': a _thread.lock" in done.step_results["y"].note
    done, _ = run("x: int\ny = native(f, x=x, cache=True)", session, {"f": lambda x: 1}, x=threading.Lock())
    assert "its input 'x' is a _thread.lock" in done.step_results["y"].note


def test_what_changes_what_it_reads_says_that_it_is_never_found_again(session):
    seen: list[int] = []

    def counted(x):
        seen.append(x)
        return len(seen)

    body = "x: int\ny = native(f, x=x, cache=True)"
    found = [run(body, session, {"f": counted}, x=1)[0] for _ in range(2)]
    assert [each.outputs["y"] for each in found] == [1, 2]
    assert all("it changes something that it reads" in each.step_results["y"].note for each in found)
    kept = [run(body, session, {"f": lambda x: x + len(seen)}, x=1)[0] for _ in range(2)]
    assert [(each.step_results["y"].status, each.step_results["y"].note) for each in kept] == [("done", ""), ("cached", "")]


def test_a_damaged_entry_is_a_miss(session):
    body = "x: int\ny = native(f, x=x, cache=True)"
    run(body, session, {"f": keyable([1, 2, 3])}, x=1)
    for path in session.steps.directory.rglob("value.json"):
        path.write_bytes(path.read_bytes()[:-5])
    done, events = run(body, session, {"f": keyable([1, 2, 3])}, x=1)
    assert (done.outputs, events, CALLS) == ({"y": [1, 2, 3]}, [("y", "done")], [1, 1])
    assert run(body, session, {"f": keyable([1, 2, 3])}, x=1)[1] == [("y", "cached")]


def test_a_failure_is_not_cached_and_a_session_without_cache_caches_nothing(session):
    body = "x: int\ny = native(f, x=x, cache=True, on_error='skip')"
    for _ in range(2):
        done, _ = run(body, session, {"f": lambda x: Source.search(None, x)}, x=1)
        assert done.step_results["y"].status == "failed"
    off = Session(cache=None, steps=session.steps)
    for _ in range(2):
        run("x: int\ny = native(f, x=x, cache=True)", off, {"f": keyable(1)}, x=1)
    assert session.steps.hits == 0


def test_children_of_parallel_and_inner_steps_are_cached(session):
    inner = read_cell("inner", "x: int\nz = native(f, x=x, cache=True)", {"f": keyable(7)})
    body = "x: int\nboth = parallel(a=native(f, x=x, cache=True), b=inner(x=x))"
    for _ in range(2):
        done, events = run(body, session, {"f": keyable(8), "inner": inner}, x=1)
        assert done.outputs == {"both": {"a": 8, "b": 7}}
    assert len(CALLS) == 2
    assert {("both.a", "cached"), ("both.b/z", "cached")} <= set(events)


def test_a_ttl_alone_caches_no_function_and_the_plan_says_so(session):
    spec = read_cell("p", 'x: int\na = native(f, x=x, ttl="1h")\nb = native(f, x=a)', {"f": lambda x: x})
    reasons = {route.step: route.reason for route in noted(spec, plan(spec, session).routes, on=True)}
    assert "not known to be pure" in reasons["a"]
    assert "cached" not in reasons["b"]


def test_the_plan_says_what_is_cached_and_why_not(session):
    import threading

    lock = threading.Lock()
    spec = read_cell(
        "p",
        'x: int\na = native(f, x=x, cache=True)\nb = native(f, x=a)\nc = native(g, x=b, cache=True, ttl="90s")\nd = native(h, x=c, cache=True)\ncache(ttl="1h")',
        {"f": lambda x: x, "g": lambda x: x + 1, "h": lambda x: lock},
    )
    found = plan(spec, session)
    reasons = {route.step: route.reason for route in noted(spec, found.routes, on=True)}
    assert reasons["a"].endswith("; cached for 1h")
    assert "not known to be pure" in reasons["b"]
    assert reasons["c"].endswith("; cached for 90s")
    assert "reads 'lock'" in reasons["d"]
    assert "the session has no cache" in {r.step: r.reason for r in noted(spec, found.routes, on=False)}["a"]


def test_the_store_is_joblibs_and_keeps_its_limit(tmp_path):
    assert "dspex_steps" in joblib.memory._STORE_BACKENDS
    memory = joblib.Memory(tmp_path / "memory", backend="dspex_steps", verbose=0)
    f = memory.cache(counted((1, 2)))
    CALLS.clear()
    assert f(1) == f(1) == (1, 2)
    assert CALLS == [1]
    store = items.StepItems()
    store.configure(str(tmp_path / "small"), backend_options={"size_bytes": 20_000})
    for number in range(20):
        store.write([f"{number:064x}"], "x" * 2000)
        folder = store.folder([f"{number:064x}"])
        os.utime(folder, (number, number))
    found = store.get_items()
    assert sum(one.size for one in found) <= 20_000
    assert store.contains_item([f"{19:064x}"])
    assert not store.contains_item([f"{0:064x}"])
    store.clear()
    assert store.get_items() == []


def test_a_retriever_is_known_by_its_version(session):
    class Index(Source):
        def add(self, texts): ...
        async def asearch(self, query): ...

    from dspex_nb.pipelines.records import FieldRef, InputSpec, PipelineSpec, Step
    from dspex_nb.runs.step_cache import is_cached, step_key

    def step(version, **options):
        return Step(
            "hits",
            "retriever",
            callable=Index([], version),
            options={"k": 2},
            bindings={"query": FieldRef("q", "")},
            writes=("hits",),
            **options,
        )

    assert is_cached(step("1"))
    assert not is_cached(step("1", cache=False))
    assert step_key(step("1"), {"query": "a"}) == step_key(step("1"), {"query": "a"})
    assert step_key(step("1"), {"query": "a"}) not in (step_key(step("2"), {"query": "a"}), step_key(step("1"), {"query": "b"}))
    assert PipelineSpec("p", (InputSpec("q"),), (step("1"),))


def test_an_index_that_is_long_about_its_version_does_not_hold_up_a_step_with_a_time_limit(session):
    asked = threading.Event()

    class Locked:
        def __init__(self):
            self.told = threading.Event()

        @property
        def version(self):
            asked.set()
            assert self.told.wait(60)
            return "1"

        def search(self, query, k=None, filter=None):  # noqa: A002
            return ["found"]

        async def asearch(self, query, k=None, filter=None):  # noqa: A002
            return self.search(query)

        def add(self, texts): ...

    index = Locked()
    done, _ = run("q: str\nhits = retriever(index, query=q, timeout_s=0.2)", session, {"index": index}, q="x")
    assert asked.is_set()
    assert not index.told.is_set()
    assert "did not say its version within 0.2 s" in done.step_results["hits"].note
    index.told.set()
    run("q: str\nhits = retriever(index, query=q, timeout_s=20)", session, {"index": index}, q="x")
    done, _ = run("q: str\nhits = retriever(index, query=q, timeout_s=20)", session, {"index": index}, q="x")
    assert done.step_results["hits"].cached == "steps"


def test_a_search_is_tried_again_where_its_index_cannot_be_asked_for_its_version(session):
    class Away:
        failures = 2

        def failed(self):
            self.failures -= 1
            if self.failures >= 0:
                raise RetrieverError("the server is away")

        @property
        def version(self):
            self.failed()
            return "1"

        def search(self, query, k=None, filter=None):  # noqa: A002
            self.failed()
            return ["found"]

        async def asearch(self, query, k=None, filter=None):  # noqa: A002
            return self.search(query)

        def add(self, texts): ...

    done, _ = run("q: str\nhits = retriever(index, query=q, retry=1, backoff=0)", session, {"index": Away()}, q="x")
    assert (done.step_results["hits"].status, done.step_results["hits"].attempts) == ("done", 2)
    assert "RetrieverError: the server is away" in done.step_results["hits"].note


# In a notebook

FUNCTIONS = '''
from pathlib import Path
def note(name):
    with open({log!r}, "a") as file: print(name, file=file)
def load(path: str) -> list[int]:
    note("load")
    return [1, 2, 3]
def double(load: list[int]) -> list[int]:
    """{doc}"""
    note("double")
    return [{factor} * each for each in load]
def total(double: list[int]) -> int:
    note("total")
    return sum(double)
'''
PIPELINE = """%%pipeline sums --quiet
path: str
load = native(load, path=path, cache=True)
double = native(double, load=load, cache=True)
total = native(total, double=double, cache=True)
"""


def test_editing_a_step_recomputes_it_and_what_depends_on_it(shell, tmp_path):
    log = tmp_path / "log"

    def calls(factor, doc=""):
        log.write_text("")
        shell.run(FUNCTIONS.format(log=str(log), factor=factor, doc=doc))
        shell.run(PIPELINE)
        shell.run("result = sums(path='here').total")
        return log.read_text().split(), shell.user_ns["result"]

    assert calls(2) == (["load", "double", "total"], 12)
    assert calls(2) == ([], 12)
    assert calls(2, doc="Now with a docstring.") == ([], 12)
    assert calls(3) == (["double", "total"], 18)
    assert calls(2) == ([], 12)
    shell.run("reasons = [r.reason for r in sums.plan().routes]")
    assert all(reason.endswith("cached") for reason in shell.user_ns["reasons"])


def test_a_function_with_side_effects_is_never_skipped(shell, tmp_path):
    log = tmp_path / "log"
    shell.run(FUNCTIONS.format(log=str(log), factor=2, doc=""))
    shell.run(PIPELINE.replace(", cache=True", "") + 'cache(ttl="1h")\n')
    for _ in range(2):
        shell.run("sums(path='here')")
    assert log.read_text().split() == ["load", "double", "total"] * 2


def test_models_are_rebuilt_by_the_annotation(fresh):
    import dspex_nb as dx

    def named(x: str) -> list[Item]:
        return [Item(name=x)]

    def unnamed(x: str):
        return [Item(name=x)]

    for function, expected in ((dx.pure(named), "cached"), (dx.pure(unnamed), "done")):
        pipe = dx.Pipeline("p", y=function)
        assert pipe(x="a").y == [Item(name="a")]
        run_ = pipe.run(x="a")
        again = run_.result()
        assert again.y == [Item(name="a")]
        assert type(again.y[0]) is Item
        ended = next(event for event in run_.events if isinstance(event, StepEnded))
        assert ended.status == expected
        assert ("annotation does not name" in ended.note) == (expected == "done")
        assert run_.metrics.loc["y", "status"] == expected


def test_two_kernels_share_what_was_computed(tmp_path):
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        "import dspex_nb as dx\n"
        "@dx.pure\n"
        "def slow(x: int) -> tuple[int, str]:\n"
        "    open('log', 'a').write('ran\\n')\n"
        "    return x, 'done'\n"
        "pipe = dx.Pipeline('p', y=slow)\n"
        "print(pipe(x=3).y)\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "DSPEX_HOME": str(tmp_path / "home")},
            capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert outputs == ["(3, 'done')\n"] * 2
    assert Path(tmp_path, "log").read_text() == "ran\n"


def test_build_takes_the_option(session):
    spec = build("p", {"y": native(lambda x: x, cache=True)})
    assert spec["y"].pure
