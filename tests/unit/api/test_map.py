"""`pipe.map`: frames, generators and files; what was done is not done again; rows on the loop give what threads give."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb.api.programs import lm_width
from dspex_nb.errors import Cancelled, DataError, LMNotConfiguredError
from dspex_nb.runs.row_files import RowFile
from dspex_nb.testing import ScriptedLM


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(
        lambda request: json.dumps({"answer": str(request.messages[-1]["content"].count("x"))}), model="scripted/map"
    )
    dx.configure(lm=scripted, adapter="json", cache=None)
    return scripted


def clean(text: str) -> str:
    if text == "x" * 3:
        raise ValueError("three")
    return text.strip()


def linear(**options):
    return dx.Pipeline(
        "p",
        tidy=dx.native(clean, **options),
        ask=dx.predict("tidy -> answer"),
        size=dx.native(lambda answer, k: f"{answer}/{k}", when=lambda k: k > 0),
        inputs={"text": str, "k": (int, 1)},
    )


ROWS = [{"text": "x" * number, "label": number} for number in range(8)]


def test_rows_on_the_loop_give_what_threads_give(lm):
    quick, threads = linear(), linear(timeout_s=30)
    assert quick.for_rows(dx.session())[1] is not None
    assert threads.for_rows(dx.session())[1] is None  # a time limit needs a thread
    one, other = quick.map(ROWS, n_jobs=4), threads.map(ROWS, n_jobs=4)
    pd.testing.assert_frame_equal(one, other)
    assert list(one["size"])[:3] == [f"{found.size}" for found in (quick(text=row["text"]) for row in ROWS[:3])]
    assert "three" in one["error"][3]
    skipped = quick.map([{"text": "x", "k": 0}], n_jobs=2)
    assert skipped["size"][0] is None


def test_generators_hold_rows_in_flight_only_and_tell_their_columns(lm):
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield {"text": "y", "k": number + 1}
            number += 1

    records = linear().map(endless(), n_jobs=4, return_as="generator")
    first = [next(records) for _ in range(20)]
    records.close()
    assert [record["k"] for record in first] == list(range(1, 21))
    assert set(first[0]) == {"text", "k", "size", "error"}
    assert len(taken) < 80


def test_as_finished(lm):
    held = threading.Event()

    def slow(text: str) -> str:
        if text == "x":
            held.wait(5)
        return text

    pipe = dx.Pipeline("p", a=dx.native(slow), inputs={"text": str})
    records = pipe.map([{"text": "x" * (1 + number)} for number in range(6)], n_jobs=3, return_as="generator_unordered")
    seen = [next(records)["row"] for _ in range(5)]
    held.set()
    assert sorted(seen) == [1, 2, 3, 4, 5]
    assert next(records)["row"] == 0
    frame = pipe.map(ROWS, n_jobs=3, order="finished")
    assert sorted(frame.index) == list(range(8))


def test_a_slow_row_holds_others_back_only_so_far(lm, monkeypatch):
    monkeypatch.setattr("dspex_nb.api.mapping._WINDOW", 20)
    held, count = threading.Event(), []

    def slow(number: int) -> int:
        count.append(number)
        if number == 0:
            held.wait(5)
        return number

    records = dx.Pipeline("p", a=dx.native(slow)).map(
        ({"number": number} for number in range(100)), n_jobs=2, return_as="generator"
    )
    threading.Timer(0.3, held.set).start()
    assert next(records)["a"] == 0
    assert len(count) <= 24
    assert [record["a"] for record in records] == list(range(1, 100))


def test_functions_that_wait_hold_the_loop_up_a_few_times_only(lm):
    from dspex_nb.pools.loop import loop_thread

    on_loop = []

    def wait(text: str) -> str:
        on_loop.append(threading.current_thread() is loop_thread._thread)
        time.sleep(0.008)
        return text

    pipe = dx.Pipeline("p", a=dx.native(wait), b=dx.predict("a -> answer"), inputs={"text": str})
    frame = pipe.map([{"text": f"{number}"} for number in range(120)], n_jobs=8)
    assert frame["error"].isna().all()
    assert sum(on_loop) <= 12


def test_a_cancelled_map_returns_within_a_second(lm):
    def hang(text: str) -> str:
        time.sleep(2)
        return text

    pipe = dx.Pipeline("p", a=dx.native(hang), b=dx.predict("a -> answer"), inputs={"text": str})

    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = time.monotonic()
        with pytest.raises(Cancelled):
            pipe.map(ROWS, n_jobs=4)
        assert time.monotonic() - started < 1.5
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def test_a_file_grows_and_what_is_in_it_is_not_done_again(lm, tmp_path):
    pipe = linear()
    path = pipe.map(ROWS[:4], n_jobs=2, out=tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["row"] for line in lines] == [0, 1, 2, 3]
    assert lines[3]["error"]
    assert lines[2]["label"] == 2
    asked = len(lm.requests)
    assert asked == 3
    with path.open("a") as file:  # what a kill in the middle of a line leaves
        file.write('{"row": 4, "ke')
    pipe.map(ROWS, n_jobs=2, out=path)
    assert len(lm.requests) == asked + 4  # rows 4 to 7; row 3 fails before it asks
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(8))
    pipe.map([{**row, "text": "z"} for row in ROWS[:1]], out=path)
    assert len(lm.requests) == asked + 5  # other data is other rows
    dx.Pipeline("p", a=dx.predict("text -> answer"), inputs={"text": str}).map(ROWS[:1], out=path)
    assert len(lm.requests) == asked + 6  # and another pipeline too


def test_a_stopped_map_leaves_its_rows(lm, tmp_path):
    pipe = linear()

    def data():
        yield from ROWS[:2]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        pipe.map(data(), n_jobs=1, out=tmp_path / "out.jsonl")
    assert len(lm.requests) == 2
    pipe.map(ROWS[:3], n_jobs=1, out=tmp_path / "out.jsonl")
    assert len(lm.requests) <= 4


def test_files_of_others_are_not_written_over(lm, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"my": "data"}\n')
    with pytest.raises(DataError, match="something else"):
        linear().map(ROWS, out=path)
    assert path.read_text() == '{"my": "data"}\n'
    with pytest.raises(DataError, match=r"\.jsonl or \.parquet"):
        RowFile(tmp_path / "x.csv", "")


def test_parquet_in_and_out(lm, tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "in.parquet")
    path = linear().map(tmp_path / "in.parquet", n_jobs=2, out=tmp_path / "out.parquet")
    frame = pd.read_parquet(path)
    assert list(frame["row"]) == list(range(8))
    assert "three" in frame["error"][3]


def test_a_finished_parquet_file_is_gone_on_with(lm, tmp_path):
    path = linear().map(ROWS, n_jobs=2, out=tmp_path / "out.parquet")
    asked = len(lm.requests)
    before = pd.read_parquet(path)
    linear().map([*ROWS, {"text": "xx", "label": 9}], n_jobs=2, out=path)
    assert len(lm.requests) == asked + 1  # the new row; row 3 fails before it asks
    after = pd.read_parquet(path)
    pd.testing.assert_frame_equal(after.head(8), before)
    assert list(after["row"]) == list(range(9))
    assert [one.name for one in tmp_path.glob("*out*")] == ["out.parquet"]


def test_a_parquet_file_of_others_is_not_written_over(lm, tmp_path):
    path = tmp_path / "in.parquet"
    pd.DataFrame(ROWS).to_parquet(path)
    with pytest.raises(DataError, match="something else than a map's rows: text, label"):
        linear().map(path, out=path)
    assert len(pd.read_parquet(path)) == len(ROWS)
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="something else"):
        linear().map(ROWS, out=path)


def test_a_map_of_no_rows_has_its_columns(lm, tmp_path):
    assert list(linear().map([])) == ["size", "error"]
    assert list(linear().map(pd.DataFrame({"text": [], "answer": []}))) == ["text", "expected_answer", "answer", "size", "error"]
    path = linear().map([], out=tmp_path / "out.parquet")
    assert len(pd.read_parquet(linear().map(ROWS[:1], out=path))) == 1


@pytest.mark.parametrize("n_jobs", [0, "all", 1.5, True])
def test_what_is_no_number_of_rows_is_refused(lm, n_jobs):
    with pytest.raises(dx.DSPexError, match="is no number of rows"):
        linear().map(ROWS, n_jobs=n_jobs)


def test_minus_one_means_the_lms_own_also_in_the_settings(lm):
    now = dx.session()
    most = now.lm.settings.max_concurrency
    assert [lm_width(now, n_jobs) for n_jobs in (None, -1, -2, -1000, 3)] == [most, most, most - 1, 1, 3]
    dx.configure(n_jobs=-1)
    assert lm_width(dx.session()) == most
    assert len(linear().map(ROWS)) == len(ROWS)


def test_no_lm_is_one_clear_error(fresh):
    with pytest.raises(LMNotConfiguredError):
        linear().map(ROWS)
