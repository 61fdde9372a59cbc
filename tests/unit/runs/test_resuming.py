from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import dspex_nb as dx
from dspex_nb.errors import DSPexError, MissingInputError, StepError
from dspex_nb.testing.scripted import ScriptedLM

PROGRAM = """
import pathlib, sys, time
import numpy as np
import dspex_nb as dx

def note(name):
    with open("log", "a") as file: print(name, file=file)

def first(x: int):
    note("first")
    return {"n": x, "array": np.arange(x)}

def second(first: dict) -> tuple[int, str]:
    note("second")
    return int(first["array"].sum()), "a"

def slow(second: tuple[int, str]) -> int:
    note("slow")
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    return second[0] + 1

def last(slow: int, first: dict) -> list:
    note("last")
    return [slow, first["n"]]

inner = dx.Pipeline("inner", first=first, second=second)
research = dx.Pipeline("research", first=first, second=second, slow=slow, last=last)
"""


def script(tmp_path, text):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + textwrap.dedent(text))
    return [sys.executable, str(path)]


def environment(tmp_path):
    return {**os.environ, "DSPEX_HOME": str(tmp_path / "home")}


def log(tmp_path):
    path = Path(tmp_path, "log")
    return path.read_text().split() if path.exists() else []


def killed_in(tmp_path, step):
    """Run the program and kill it with -9 while `step` runs; returns the run's id."""
    command = script(tmp_path, "run = research.run(x=5)\nprint(run.id, flush=True)\nrun.result()")
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
    try:
        run_id = process.stdout.readline().strip()
        deadline = time.monotonic() + 20
        while step not in log(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.15)  # the run store commits every 50 ms
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    return run_id


def test_a_killed_run_goes_on_in_a_new_process_and_no_finished_step_runs_again(tmp_path):
    run_id = killed_in(tmp_path, "slow")
    assert log(tmp_path) == ["first", "second", "slow"]
    Path(tmp_path, "go").touch()
    command = script(
        tmp_path,
        """
        before = dx.load_run(sys.argv[1])
        print(before.status, list(before.metrics.status))
        run = before.resume()
        print(run.id == before.id, run.result().last)
        after = dx.load_run(run.id)
        print(after.status, list(after.metrics.status))
        try:
            after.resume()
        except dx.DSPexError as error:
            print(error.message)
        """,
    )
    done = subprocess.run(
        [*command, run_id], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert log(tmp_path) == ["first", "second", "slow", "slow", "last"]
    lines = done.stdout.splitlines()
    assert lines[0] == "interrupted ['done', 'done', 'cancelled', 'waiting']"
    assert lines[1] == "True [11, 5]"
    assert lines[2] == "done ['cached', 'cached', 'done', 'done']"
    assert "nothing is left to resume" in lines[3]
    assert not list((tmp_path / "home" / "unfinished").iterdir())


def test_an_edited_step_and_what_depends_on_it_run_again(tmp_path):
    run_id = killed_in(tmp_path, "slow")
    Path(tmp_path, "go").touch()
    command = script(
        tmp_path,
        """
        def second(first: dict) -> tuple[int, str]:
            note("second")
            return 100, "b"
        research = dx.Pipeline("research", first=first, second=second, slow=slow, last=last)
        print(research.resume(sys.argv[1]).result().last)
        """,
    )
    done = subprocess.run([*command, run_id], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[101, 5]"
    assert log(tmp_path)[3:] == ["second", "slow", "last"]


CALLS: list = []


def test_a_failed_run_goes_on_after_the_function_was_mended(fresh):
    CALLS.clear()

    def first(x: int) -> int:
        CALLS.append("first")
        return x + 1

    def broken(first: int) -> int:
        CALLS.append("broken")
        raise ValueError("no luck")

    def mended(first: int) -> int:
        CALLS.append("mended")
        return first * 2

    run = dx.Pipeline("p", first=first, second=broken).run(x=1)
    with pytest.raises(StepError, match="no luck"):
        run.result()
    assert run.status == "failed"
    with pytest.raises(StepError):
        run.resume().result()
    assert CALLS == ["first", "broken", "broken"]
    pipe = dx.Pipeline("p", first=first, second=mended)
    done = pipe.resume()
    assert done.result().second == 4
    assert (done.id, CALLS) == (run.id, ["first", "broken", "broken", "mended"])
    assert list(done.metrics.status) == ["cached", "done"]
    with pytest.raises(DSPexError, match="no run of 'p' is left unfinished"):
        pipe.resume()
    for handle in (done, run):  # of the failed attempt, too
        with pytest.raises(DSPexError, match="is done"):
            handle.resume()


def test_what_cannot_be_kept_runs_again_and_the_run_says_so(fresh):
    import threading

    CALLS.clear()
    fine = []

    def opened(x: int):
        CALLS.append("opened")
        return threading.Lock()

    def used(opened) -> int:
        CALLS.append("used")
        return 5

    def late(used: int) -> int:
        if not fine:
            raise ValueError("not yet")
        return used

    pipe = dx.Pipeline("p", opened=opened, used=used, late=late)
    run = pipe.run(x=1)
    with pytest.raises(StepError):
        run.result()
    assert "not kept for resume(): a _thread.lock" in run.metrics.loc["opened", "note"]
    fine.append(True)
    assert pipe.resume(run.id).result().late == 5
    assert CALLS == ["opened", "used", "opened"]


def test_inputs_that_cannot_be_kept_must_be_given(fresh):
    import threading

    lock = threading.Lock()
    fine = []

    def use(lock) -> int:
        if not fine:
            raise ValueError("not yet")
        return 1

    pipe = dx.Pipeline("p", use=use)
    run = pipe.run(lock=lock)
    with pytest.raises(StepError):
        run.result()
    fine.append(True)
    with pytest.raises(MissingInputError, match=r"were not kept: a _thread.lock"):
        pipe.resume(run.id)
    assert pipe.resume(run.id, lock=lock).result().use == 1


def test_a_secret_among_the_inputs_is_not_written_and_must_be_given_again(fresh):
    heard = []

    def ask(q, password, token):
        heard.append((q, password, token))
        if len(heard) == 1:
            raise ValueError("down")
        return q

    dx.configure(lm=ScriptedLM([]))
    pipe = dx.Pipeline("p", inputs={"q": str, "password": str, "token": (str, "none")}, a=dx.native(ask))
    run = pipe.run(q="x", password="hunter2", token="tok-1")
    with pytest.raises(StepError):
        run.result()
    dx.session().store.flush()
    written = b"".join(path.read_bytes() for path in fresh.rglob("*") if path.is_file())
    assert b"hunter2" not in written
    assert b"tok-1" not in written
    with pytest.raises(MissingInputError, match="password and token look like a secret") as caught:
        pipe.resume(run.id)
    assert "password=…, token=…" in caught.value.hint
    assert pipe.resume(run.id, password="hunter2", token="tok-1").result().a == "x"
    assert heard[1] == heard[0]


def test_nor_are_secrets_inside_dicts_or_those_of_a_default(fresh):
    heard = []

    def ask(q, api_key, settings):
        heard.append((q, api_key, settings))
        if len(heard) == 1:
            raise ValueError(f"down with {settings}")
        return q

    dx.configure(lm=ScriptedLM([]))
    pipe = dx.Pipeline("p", inputs={"q": str, "api_key": (str, "dev-key-1"), "settings": (dict, {})}, a=dx.native(ask))
    run = pipe.run(q="x", settings={"db": {"token": "tok-12345"}, "size": 3})
    with pytest.raises(StepError) as failed:
        run.result()
    dx.session().store.flush()
    written = b"".join(path.read_bytes() for path in fresh.rglob("*") if path.is_file())
    assert b"dev-key-1" not in written
    assert b"tok-12345" not in written
    assert "tok-12345" not in str(failed.value)
    assert "'size': 3" in str(failed.value)
    with pytest.raises(MissingInputError, match="settings looks like a secret"):
        pipe.resume(run.id)
    assert pipe.resume(run.id, settings={"db": {"token": "tok-12345"}, "size": 3}).result().a == "x"
    assert heard[1] == heard[0]


def test_inner_steps_and_steps_that_ended_beside_a_failure_are_kept(fresh):
    CALLS.clear()
    fine = []

    def one(x: int) -> int:
        CALLS.append("one")
        return x

    def two(one: int) -> int:
        CALLS.append("two")
        if not fine:
            raise ValueError("not yet")
        return one + 1

    inner = dx.Pipeline("inner", one=one, two=two)
    pipe = dx.Pipeline("outer", part=inner, beside=one)
    run = pipe.run(x=1)
    with pytest.raises(StepError):
        run.result()
    fine.append(True)
    before = CALLS.count("one")
    assert run.resume().result().two == 2
    assert CALLS.count("one") == before
    assert CALLS.count("two") == 2


def test_a_cancelled_run_goes_on(fresh, tmp_path):
    CALLS.clear()
    gate = tmp_path / "gate"

    def one(x: int) -> int:
        CALLS.append("one")
        return x

    def wait(one: int):
        while not gate.exists():
            time.sleep(0.01)
            yield one

    pipe = dx.Pipeline("p", one=one, wait=wait)
    run = pipe.run(x=1)
    with pytest.raises(DSPexError, match="still runs"):
        run.resume()
    while not CALLS:
        time.sleep(0.01)
    time.sleep(0.05)
    run.cancel()
    with pytest.raises(dx.Cancelled):
        run.result()
    gate.touch()
    assert pipe.resume(run.id).result().wait == []
    assert CALLS == ["one"]


def test_metrics_are_shown_and_kept(fresh):
    dx.configure(lm=ScriptedLM(lambda request: '{"desk": "tech"}'), adapter="json")
    pipe = dx.Pipeline("p", desk=dx.predict("message -> desk"), upper=lambda desk: desk.upper())
    pipe.run(message="hi").result()
    run = pipe.run(message="hi")
    run.result()
    past = dx.load_run(run.id)
    for found in (run, past):
        table = found.metrics
        assert list(table.index) == ["desk", "upper"]
        assert list(table.status) == ["done", "done"]
        assert list(table.calls) == [0, 0]
        assert list(table.cache_hits) == [1, 0]
        assert list(table.engine) == ["native", "python"]
        assert table.seconds.min() > 0
        assert found.usage.cache_hits == 1
        assert found.cost == 0.0
        assert set(found.timings) == {"desk", "upper"}
    first = dx.load_run(next(row.run_id for row in dx.session().store.runs("pipeline") if row.run_id != run.id))
    assert list(first.metrics.calls) == [1, 0]
    assert first.metrics.loc["desk", "tokens"] == first.usage.total_tokens > 0
    row = dx.session().store.run(run.id)
    assert [one["step"] for one in row.result["metrics"]] == ["desk", "upper"]
    with pytest.raises(DSPexError, match="no pipeline run 'nothing'"):
        dx.load_run("nothing")


def test_in_a_notebook_the_pipeline_is_found_by_its_name(shell):
    shell.run("fine = []\ndef f(x: int) -> int:\n    if not fine: raise ValueError('not yet')\n    return x")
    shell.run("%%pipeline numbers --quiet\nx: int\ny = f(x=x)")
    shell.run("run = numbers.run(x=3)\ntry:\n    run.result()\nexcept Exception as error:\n    said = str(error)")
    assert "not yet" in shell.user_ns["said"]
    shell.run("fine.append(1)\nimport dspex_nb as dx\nagain = dx.load_run(run.id).resume().result().y")
    assert shell.user_ns["again"] == 3
    shell.run("del numbers")
    shell.run("run = None")
    with pytest.raises(DSPexError):
        shell.run("dx.load_run(dx.session().store.runs('pipeline')[0].run_id).resume()")


def test_leftovers_of_long_ago_are_swept(tmp_path):
    from dspex_nb.runs.resuming import sweep

    for name, age_s in (("old", 40 * 86400), ("new", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("run_id", ["..", "../other", "", "a/b"])
def test_an_id_that_is_a_path_deletes_nothing(fresh, run_id):
    def double(x: int) -> int:
        return 2 * x

    pipe = dx.Pipeline("p", double=double)
    assert pipe(x=1).double == 2
    for folder in (fresh / "unfinished", fresh / "other"):
        folder.mkdir(exist_ok=True)
        (folder / "kept").touch()
    with pytest.raises(DSPexError, match="no run"):
        pipe.resume(run_id, x=1)
    assert (fresh / "unfinished" / "kept").exists()
    assert (fresh / "other" / "kept").exists()
