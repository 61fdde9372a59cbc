"""What goes wrong for people, one test each: a clear message, the next act, and nothing lost."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import time
import warnings

import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb import ambient
from dspex_nb.errors import (
    AdapterError,
    AdapterParseError,
    DataError,
    LMConnectionError,
    LMNotConfiguredError,
    MagicUsageError,
    MetricError,
    MissingInputError,
    OptimizerError,
    PipelineSyntaxError,
    PlanError,
    SignatureSyntaxError,
    StepError,
    StudyError,
)
from dspex_nb.testing import ScriptedLM

SECRET = "sk-never-shown-0123456789abcdef"
ROWS = [{"message": f"message {i}", "desk": "tech" if i % 2 else "billing"} for i in range(6)]


@pytest.fixture
def lm(fresh):
    """A model that always says billing; JSON in and out."""
    scripted = ScriptedLM(lambda request: '{"desk": "billing"}')
    dx.configure(lm=scripted, adapter="json")
    return scripted


@pytest.fixture
def closed_port():
    """A loopback port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def refused(shell, cell, error):
    """Run a cell that must be refused; returns what the notebook shows, which must be the message and the hint alone."""
    with pytest.raises(error) as raised:
        shell.run(cell)
    shown = shell.traceback
    assert shown.startswith(f"{error.__name__}: ")
    assert "Traceback" not in shown
    assert ".py" not in shown
    assert raised.value.hint
    assert shown.splitlines()[-1] == f"→ {raised.value.hint}"
    return shown


# -- signatures ---------------------------------------------------------------------------------------------------------------


def test_a_typo_in_a_signature_has_its_line_and_a_caret(shell):
    shown = refused(
        shell, "%%signature Triage\nRoute it.\n\nmessage: str\n->\ndesk: Literal['billing', 'tech'\n", SignatureSyntaxError
    )
    assert "line 5" in shown
    text, caret = shown.splitlines()[1:3]
    assert text.strip() == "desk: Literal['billing', 'tech'"
    assert caret.strip() == "^"
    assert len(text) >= caret.index("^") >= text.index("Literal")
    assert "Triage" not in shell.user_ns


def test_an_unknown_type_has_its_nearest(shell):
    shown = refused(shell, "%%signature Triage\nmessage: sttr\n->\ndesk: str\n", SignatureSyntaxError)
    assert "line 1: unknown type 'sttr'" in shown
    assert shown.splitlines()[2].index("^") == shown.splitlines()[1].index("sttr")
    assert "did you mean 'str'?" in shown
    with pytest.raises(SignatureSyntaxError, match="unknown type 'Lteral'"):
        dx.Predict("message -> desk: Lteral['a']")


# -- pipelines ----------------------------------------------------------------------------------------------------------------


def test_a_field_nobody_writes(shell):
    cell = "%%pipeline p\nmessage: str\n\ntriage = predict('message -> desk')\nnote = template('{{ dsk }}')\n"
    shown = refused(shell, cell, PlanError)
    assert re.search(r"line 4: .*'dsk'", shown)
    assert "did you mean 'desk'" in shown
    assert "p" not in shell.user_ns


def test_a_step_name_used_twice(shell):
    cell = "%%pipeline p\nmessage: str\na = predict('message -> desk')\na = predict('message -> mood')\n"
    shown = refused(shell, cell, PlanError)
    assert "line 3" in shown
    assert "'a'" in shown
    assert "line 2" in shown  # where the first one is


def test_two_writers_of_one_field(shell):
    cell = "%%pipeline p\nmessage: str\na = predict('message -> desk')\nb = predict('message -> desk')\n"
    shown = refused(shell, cell, PlanError)
    assert "'desk'" in shown
    assert "'a'" in shown
    assert "'b'" in shown
    assert "line 3" in shown


def test_a_statement_that_is_not_allowed(shell):
    shown = refused(shell, "%%pipeline p\nmessage: str\nimport os\n", PipelineSyntaxError)
    assert "line 2" in shown


def test_a_bad_cell_leaves_the_pipeline_before_it(shell, lm):
    shell.run("%%pipeline --quiet p\nmessage: str\na = predict('message -> desk')\n")
    before = shell.user_ns["p"]
    refused(shell, "%%pipeline p\nmessage: str\na = predct('message -> desk')\n", PlanError)
    assert shell.user_ns["p"] is before
    assert lm.requests == []  # refused before any call


# -- calls --------------------------------------------------------------------------------------------------------------------


def test_a_missing_input(shell, lm):
    shell.user_ns.update(p=dx.Predict("message, shop -> desk"), q=dx.Pipeline("q", a=dx.predict("message -> desk")))
    shown = refused(shell, "p(message='a')", MissingInputError)
    assert "'shop'" in shown
    shown = refused(shell, "q()", MissingInputError)
    assert "'message'" in shown
    assert "q(message=…)" in shown
    shown = refused(shell, "q(mesage='a')", MissingInputError)
    assert "did you mean 'message'" in shown
    assert "message=" in refused(shell, "p('a', 'b')", MissingInputError)
    assert "message=" in refused(shell, "q('a')", MissingInputError)
    assert lm.requests == []


def test_no_lm_is_set(shell):
    shell.user_ns.update(p=dx.Predict("message -> desk"), q=dx.Pipeline("q", a=dx.predict("message -> desk")), rows=ROWS)
    for cell in ("p(message='a')", "q(message='a')", "p.batch(rows)", "p.batch(rows, on_error='keep')", "q.map(rows)"):
        shown = refused(shell, cell, LMNotConfiguredError)
        assert shown == (
            "LMNotConfiguredError: no language model is set\n"
            "→ run `%dspex lm local` (the embedded model) or dx.configure(lm=dx.LM('openai/gpt-5-mini'))"
        )
    assert "no language model" in refused(shell, "%evaluate p --data rows", LMNotConfiguredError)


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("gpt-5-mini", "openai/gpt-5-mini"),
        ("opnai/gpt-5-mini", "did you mean 'openai'"),
        ("lokal", "did you mean 'local'"),
        ("openai/", "openai/MODEL"),
        ("", "provider/model"),
    ],
)
def test_a_wrong_model_string(shell, lm, model, hint):
    shown = refused(shell, f"%dspex lm '{model}'" if model else "dx = __import__('dspex_nb'); dx.LM('')", LMNotConfiguredError)
    assert hint in shown
    assert dx.session().lm is lm  # the one before stays


def test_a_server_that_is_down(shell, closed_port):
    dx.configure(lm=dx.LM("openai/m", api_base=f"http://127.0.0.1:{closed_port}/v1", api_key=SECRET, num_retries=0))
    shell.user_ns.update(p=dx.Predict("message -> desk"), q=dx.Pipeline("q", a=dx.predict("message -> desk")), rows=ROWS)
    started = time.perf_counter()
    shown = refused(shell, "p(message='a')", LMConnectionError)
    assert f"127.0.0.1:{closed_port}" in shown
    shown = refused(shell, "q(message='a')", StepError)
    assert f"127.0.0.1:{closed_port}" in shown
    assert "'a'" in shown
    frame = shell.run("q.map(rows)")
    assert frame["error"].str.contains(str(closed_port)).all()
    assert list(frame["message"]) == [row["message"] for row in ROWS]
    refused(shell, "%evaluate p --data rows", LMConnectionError)
    assert time.perf_counter() - started < 5


def test_answers_survive_the_server(fresh, lm):
    dx.Predict("message -> desk")(message="a")
    lm._wire._answer = lambda request: LMConnectionError("down", hint="start it")
    predict = dx.Predict("message -> desk")
    assert predict(message="a").cached
    with pytest.raises(LMConnectionError):
        predict(message="b")
    kept = predict.batch([{"message": "a"}, {"message": "b"}], on_error="keep")
    assert kept[0].desk == "billing"
    assert isinstance(kept[1], LMConnectionError)


def test_a_full_disk_is_said_once_and_answers_come(shell, lm, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    real_open = os.open
    cache = str(ambient.home() / "cache")
    monkeypatch.setattr(os, "open", lambda path, *a, **k: full() if str(path).startswith(cache) else real_open(path, *a, **k))
    monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr("os.replace", full)
    shell.user_ns["p"] = dx.Predict("message -> desk")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [shell.run(f"p(message='{i}')").desk for i in range(3)] == ["billing"] * 3
        assert shell.run("p(message='0')").cached == "memory"
    assert sum("No space left" in str(one.message) for one in told) == 1


def test_an_answer_that_does_not_parse(shell, lm):
    lm._wire._answer = lambda request: "I would rather not say."
    shell.user_ns.update(p=dx.Predict("message -> desk"), q=dx.Pipeline("q", a=dx.predict("message -> desk")), rows=ROWS)
    shown = refused(shell, "p(message='a')", AdapterParseError)
    assert "I would rather not say." in shown
    assert "'a'" in refused(shell, "q(message='a')", StepError)
    with pytest.raises(AdapterParseError) as raised:
        shell.user_ns["p"](message="a")
    assert raised.value.answer == "I would rather not say."
    assert shell.run("q.map(rows)")["error"].notna().all()
    assert len(lm.requests) == 7  # each message asked once: answers that do not parse are kept too


def test_an_unknown_adapter(fresh):
    for build in (lambda: dx.configure(adapter="jsn"), lambda: dx.Predict("a -> b", adapter="jsn")):
        with pytest.raises(AdapterError, match="did you mean 'json'"):
            build()


# -- data and metrics ---------------------------------------------------------------------------------------------------------


def test_a_metric_that_always_raises(shell, lm):
    shell.user_ns.update(p=dx.Predict("message -> desk"), rows=ROWS)
    cell = "%%evaluate p --data rows\ndef right(example, prediction, trace=None):\n    return example.dsk == prediction.desk\n"
    shown = refused(shell, cell, MetricError)
    assert "'right' failed on all 6" in shown
    assert "did you mean 'desk'" in shown
    assert "in the cache" in shown
    asked = len(lm.requests)
    evaluation = shell.run("%evaluate p --data rows --metrics exact_match:desk")
    assert len(lm.requests) == asked == 6  # nothing was lost
    assert evaluation.score == 0.5


def test_a_metric_that_sometimes_raises(shell, lm):
    shell.user_ns.update(p=dx.Predict("message -> desk"), rows=ROWS)
    cell = (
        "%%evaluate p --data rows\ndef right(example, prediction, trace=None):\n"
        "    if example.message == 'message 3':\n        raise KeyError('three')\n    return 1\n"
    )
    evaluation = shell.run(cell)
    errors = evaluation.frame["error"]
    assert errors.notna().sum() == 1
    assert "right" in errors[3]
    assert "KeyError" in errors[3]
    assert evaluation.frame["desk"][3] == "billing"  # the answer is there
    assert evaluation.score == pytest.approx(5 / 6)


def test_a_metric_that_gives_no_number(shell, lm):
    shell.user_ns.update(p=dx.Predict("message -> desk"), rows=ROWS)
    shown = refused(shell, "%%evaluate p --data rows\nmetric = lambda example, prediction: 'good'\n", MetricError)
    assert "str 'good'" in shown
    assert "float(" in shown


def test_a_metric_misspelt(shell, lm):
    shell.user_ns.update(p=dx.Predict("message -> desk"), rows=ROWS)
    assert "did you mean 'exact_match'" in refused(shell, "%evaluate p --data rows --metrics exct_match", MetricError)
    assert "did you mean 'desk'" in refused(shell, "%evaluate p --data rows --metrics exact_match:dsk", MetricError)


def test_a_frame_that_lacks_a_column(shell, lm):
    frame = pd.DataFrame(ROWS).rename(columns={"message": "mesage"})
    shell.user_ns.update(p=dx.Predict("message -> desk"), q=dx.Pipeline("q", a=dx.predict("message -> desk")), df=frame)
    for cell in ("p.batch(df)", "q.map(df)", "%evaluate p --data df", "%evaluate q --data df"):
        shown = refused(shell, cell, DataError)
        assert "no column 'message'; it has: mesage, desk" in shown
        assert "did you mean 'mesage'" in shown
        assert "rename" in shown
    shown = refused(shell, "%optimize p --optimizer BootstrapFewShot --metric f1 --trainset df", DataError)
    assert "'message'" in shown
    assert lm.requests == []


def test_a_variable_that_is_not_there(shell, lm):
    shell.user_ns.update(triage=dx.Predict("message -> desk"), dev=ROWS)
    assert "did you mean 'triage'" in refused(shell, "%evaluate triag --data dev", MagicUsageError)
    assert "did you mean 'dev'" in refused(shell, "%evaluate triage --data devv", MagicUsageError)
    assert "no file" in refused(shell, "%evaluate triage --data nowhere.csv", DataError)


# -- magics and studies -------------------------------------------------------------------------------------------------------


def test_an_optimizer_misspelt(shell, lm):
    shell.user_ns.update(p=dx.Predict("message -> desk"), rows=ROWS)
    shown = refused(shell, "%optimize p --optimizer BootstrapFewSht --metric f1 --trainset rows", OptimizerError)
    assert "did you mean 'BootstrapFewShot'" in shown
    with pytest.raises(OptimizerError, match="did you mean 'MIPROv2'"):
        dx.optimize(shell.user_ns["p"], "MIPRv2", metric="f1", trainset=ROWS)
    assert len(dx.studies()) == 0


@pytest.mark.parametrize(
    ("line", "nearest"),
    [
        ("%evaluate p --data rows --metrcs f1", "--metrics"),
        ("%optimize p --optimizer BootstrapFewShot --trainst rows --trainset rows --metric f1", "--trainset"),
        (
            "%optimize p --optimizer BootstrapFewShot --max-bootstraped-demos 2 --trainset rows --metric f1",
            "--max-bootstrapped-demos",
        ),
        ("%dspex status --cler", "--clear"),
        ("%%pipeline p --inptus a=1\nmessage: str\na = predict('message -> desk')", "--inputs"),
        ("%%signature S --adaptr json\na -> b", "--adapter"),
    ],
)
def test_a_magic_option_misspelt(shell, lm, line, nearest):
    shell.user_ns.update(p=dx.Predict("message -> desk"), rows=ROWS)
    assert f"did you mean '{nearest}'?" in refused(shell, line, MagicUsageError)


@pytest.mark.parametrize(
    "line",
    [
        "%evaluate p --data rows --n-jobs many",
        "%evaluate p --data rows --timeout soon",
        "%evaluate p --data rows --deadline 0",
        "%evaluate p --data rows --compare rows",
        "%optimize p --optimizer BootstrapFewShot --metric f1 --trainset rows --seed x",
        "%evaluate p.nothing --data rows",
        "%evaluate p --data",
        "%evaluate p --data 'rows",
        "%evaluate",
        "%dspex",
        "%dspex statsu",
        "%%pipeline 2p\na: str\nb = predict('a -> c')",
    ],
)
def test_a_magic_line_that_cannot_be_read(shell, lm, line):
    shell.user_ns.update(p=dx.Predict("message -> desk"), rows=ROWS)
    refused(shell, line, MagicUsageError)
    assert lm.requests == []


def test_loading_the_extension_twice(shell, lm):
    shell.user_ns.update(p=dx.Predict("message -> desk"))
    before = dx.session()
    shell.run("%load_ext dspex_nb")
    shell.run("%reload_ext dspex_nb")
    assert dx.session() is before
    ours = [m for m in shell.shell.Completer.custom_matchers if getattr(m, "matcher_identifier", "") == "dspex_nb.options"]
    assert len(ours) == 1
    assert shell.run("p(message='a')").desk == "billing"


DYING = """
import os, sys
from dspex_nb.events import RunStarted, TrialEnded
from dspex_nb.store import Store
store = Store(sys.argv[1])
store.append([RunStarted(run_id="abc123", name="BootstrapFewShot of p", of="study", info={"folder": sys.argv[2]})])
store.append([TrialEnded(run_id="abc123", trial=0, score=0.5, best=0.5)])
assert store.flush()
os._exit(9)
"""


def test_a_study_of_a_kernel_that_died_is_there_marked_interrupted(fresh, shell):
    subprocess.run([sys.executable, "-c", DYING, fresh / "runs.sqlite", fresh], check=False)
    listed = dx.studies()
    assert list(listed["status"]) == ["interrupted"]
    study = dx.load_study("abc123")
    assert study.status == "interrupted"
    assert list(study.trials["score"]) == [0.5]
    shell.user_ns["study"] = study
    shell.run("study")
    assert "interrupted" in shell.displayed[0]["text/plain"]
    assert "dx.studies()" in refused(shell, "dx = __import__('dspex_nb'); dx.load_study('nope')", StudyError)


# -- secrets ------------------------------------------------------------------------------------------------------------------


def test_a_key_is_nowhere(fresh, shell, closed_port):
    lm = dx.LM("openai/m", api_base=f"http://127.0.0.1:{closed_port}/v1", api_key=SECRET, num_retries=0)
    dx.configure(lm=lm)
    shell.user_ns.update(p=dx.Predict("message -> desk"), lm=lm)
    shown = refused(shell, "p(message='a')", LMConnectionError)
    shown += repr(lm) + repr(lm.client) + repr(dx.session()) + str(vars(lm.client).get("options"))
    shown += repr(shell.run("%dspex status")) + repr(shell.run("%dspex doctor")) + repr(shell.run("%dspex runs"))
    shown += json.dumps(lm.client.dump_state()) + repr(list(dx.session().bus.recent))
    assert "Authorization" not in shown
    dx.session().store.flush()
    shown_and_kept = shown.encode() + b"".join(path.read_bytes() for path in fresh.rglob("*") if path.is_file())
    assert any(path.name.startswith("runs.sqlite") for path in fresh.rglob("*"))
    assert SECRET.encode() not in shown_and_kept
