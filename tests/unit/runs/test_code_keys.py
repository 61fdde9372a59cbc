from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import threading
import types
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from dspex_nb.runs.code_keys import key_of, library
from dspex_nb.runs.contents import Unkeyable


def defined(source, name="f", **names):
    """Return what a notebook cell would define: code with a source that can be looked up, in a namespace of its own."""
    import linecache

    source = textwrap.dedent(source)
    filename = f"<cell {abs(hash(source))}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope = {"__name__": "__main__", **names}
    exec(compile(source, filename, "exec"), scope)  # noqa: S102 - what a cell does
    return scope[name]


PLAIN = "def f(x, y=2):\n    return x + y\n"


def test_comments_docstrings_and_place_do_not_count():
    same = '\n\n# a remark\ndef f(x, y = 2):\n    """Adds."""\n    # adds\n    return (x +\n            y)\n'
    assert key_of(defined(PLAIN)) == key_of(defined(same))


@pytest.mark.parametrize(
    "other",
    ["def f(x, y=3):\n    return x + y\n", "def f(x, y=2):\n    return x - y\n", "def f(x, *, y=2):\n    return x + y\n"],
)
def test_code_and_defaults_count(other):
    assert key_of(defined(PLAIN)) != key_of(defined(other))


def test_what_a_function_reads_counts_however_deep():
    source = "def g(x):\n    return x * factor\ndef f(x):\n    return g(x) + 1\n"
    assert key_of(defined(source, factor=2)) == key_of(defined(source, factor=2))
    assert key_of(defined(source, factor=2)) != key_of(defined(source, factor=3))
    assert key_of(defined(source, factor=2)) != key_of(defined(source.replace("x * factor", "x / factor"), factor=2))
    assert key_of(defined("def f(x):\n    return 1\n", factor=2)) == key_of(defined("def f(x):\n    return 1\n", factor=3))


def test_closures_partials_decorators_and_methods_count():
    maker = "def make(n):\n    def inner(x):\n        return x + n\n    return inner\n"
    make = defined(maker, "make")
    assert key_of(make(1)) == key_of(make(1)) != key_of(make(2))
    f = defined(PLAIN)
    assert key_of(functools.partial(f, y=1)) != key_of(functools.partial(f, y=2))
    wrapper = "import functools\ndef deco(fn):\n    @functools.wraps(fn)\n    def wrapped(*a, **k):\n        return fn(*a, **k){}\n    return wrapped\n@deco\ndef f(x):\n    return x\n"
    assert key_of(defined(wrapper.format(""))) != key_of(defined(wrapper.format(" or 0")))
    assert key_of(functools.cache(f)) != key_of(f)
    klass = "class A:\n    k = {}\n    def m(self, x):\n        return x + self.k\n"
    assert key_of(defined(klass.format(1), "A")) == key_of(defined(klass.format(1), "A")) != key_of(defined(klass.format(2), "A"))


def test_a_function_that_calls_itself_and_one_that_calls_back_have_keys():
    source = "def g(n):\n    return f(n - 1)\ndef f(n):\n    return g(n) if n else 0\n"
    assert key_of(defined(source)) == key_of(defined(source)) != key_of(defined(source.replace("n - 1", "n - 2")))


def test_library_functions_go_by_name_and_version():
    assert key_of(np.mean) == key_of(np.mean) != key_of(np.median)
    assert library("numpy.linalg") == f"numpy {np.__version__}"
    assert library("json").startswith("python ")
    assert library("__main__") is None


def test_what_has_no_content_is_refused_and_named():
    lock = threading.Lock()
    with pytest.raises(Unkeyable, match=r"f\(\) reads 'lock': a _thread.lock"):
        key_of(defined("def f(x):\n    return lock\n", lock=lock))
    importing = defined("def f(x):\n    import my_own_module\n    return x\n")
    with pytest.raises(Unkeyable, match="inside the function"):
        key_of(importing)
    looped = []
    looped.append(looped)
    with pytest.raises(Unkeyable, match="holds itself"):
        key_of(looped)
    assert key_of(defined("def f(x):\n    return lock\n", lock=lock), data=False)


def test_of_an_own_module_the_named_part_counts():
    own = types.ModuleType("my_helpers")
    own.used, own.other = 1, 1
    source = "def f(x):\n    return my_helpers.used + x\n"
    first = key_of(defined(source, my_helpers=own))
    own.other = 2
    assert key_of(defined(source, my_helpers=own)) == first
    own.used = 2
    assert key_of(defined(source, my_helpers=own)) != first
    with pytest.raises(Unkeyable, match="hands on the module 'my_helpers'"):
        key_of(defined("def f(x):\n    return vars(my_helpers)\n", my_helpers=own))


class Item(BaseModel):
    name: str
    tags: list[str] = []


@dataclass
class Pair:
    a: int
    b: list


VALUES = [
    None, True, 1, 1.0, "1", b"1", [1], (1,), {1}, frozenset({1}), {"a": 1}, {"b": 1}, {"a": 1, "b": 2}, [[1], 2], [1, [2]], ["ab"],
    ["a", "b"], float("nan"), np.int64(1), np.array([1]), np.array([1.0]), np.array([[1]]), np.array(["a", None], dtype=object),
    pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]}), pd.DataFrame({"a": [1, 2]}, index=[1, 2]), pd.DataFrame({"a": ["x", "y"]}),
    pd.Series([1, 2]), pd.Series([1, 2], name="s"), Item(name="x"), Item(name="x", tags=["t"]), Pair(1, []), Pair(1, [2]),
]  # fmt: skip


def test_each_value_has_its_own_key():
    keys = [key_of(value) for value in VALUES]
    assert len(set(keys)) == len(VALUES)
    assert [key_of(value) for value in VALUES] == keys


def test_keys_are_the_same_in_another_kernel():
    program = textwrap.dedent(
        """
        import linecache, numpy as np, pandas as pd
        from dspex_nb.runs.code_keys import key_of
        source = "K = {'a', 'b', 'c'}\\ndef g(x):\\n    return x in K\\ndef f(x, y=(1, 'z')):\\n    return g(x), np.sum(y), (lambda q: q + 1)(x)\\n"
        linecache.cache["<cell>"] = (len(source), None, source.splitlines(keepends=True), "<cell>")
        exec(compile(source, "<cell>", "exec"))
        print(key_of(f, {"k": {"x", "y", "z"}}, pd.DataFrame({"a": [1.5], "b": ["t"]}), lambda v: {"p", "q"}))
        """
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(next(iter(found)).strip()) == 64


def test_a_file_edited_since_it_was_imported_is_not_taken_for_what_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "edited_later.py"
    path.write_text("def f(x):\n    return x + 1\n")
    import importlib

    module = importlib.import_module("edited_later")
    first = module.f
    key = key_of(first)
    path.write_text("def f(x):\n    return x - 1\n")
    import linecache

    linecache.checkcache()
    from dspex_nb.runs.code_keys import code_digest

    code_digest.cache_clear()
    stale = key_of(first)
    fresh = types.ModuleType("edited_later")
    exec(compile(path.read_text(), str(path), "exec"), fresh.__dict__)  # noqa: S102 - what a reload does
    assert key_of(fresh.f) not in (key, stale)
