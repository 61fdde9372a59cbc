"""The magics in a real IPython shell."""

import asyncio
import threading
import time

import pandas as pd
import pytest

import dspex_nb as dx
from dspex_nb import api
from dspex_nb.errors import DataError, MagicUsageError
from dspex_nb.testing import ScriptedLM

ROWS = [{"message": f"message {i}", "desk": "tech" if i % 2 else "billing"} for i in range(6)]
PREDICT = "message: str\na = predict('message -> desk')\n"


@pytest.fixture
def lm(fresh):
    scripted = ScriptedLM(lambda request: '{"desk": "billing"}')
    dx.configure(lm=scripted, adapter="json")
    return scripted


@pytest.fixture
def ready(shell, lm):
    shell.user_ns.update(dx=dx, p=dx.Predict("message -> desk"), rows=ROWS)
    return shell


@pytest.mark.parametrize("magic", ["signature", "pipeline", "evaluate", "optimize", "dspex"])
def test_help(shell, magic):
    shell.run(f"%{magic} --help")
    printed = shell.stdout
    assert printed.startswith(f"%{'%' if magic in ('signature', 'pipeline') else ''}{magic} ")
    assert "Example:" in printed
    assert "--" in printed
    assert printed.strip() in shell.shell.find_line_magic(magic).__doc__  # %magic? says the same
    if magic != "dspex":
        shell.run(f"%%{magic} --help\nx")
        assert shell.stdout == printed


# -- %%signature --------------------------------------------------------------------------------------------------------------

TRIAGE = """%%signature Triage
Route a customer message to the right desk.

message: str                     # what the customer wrote
history: list[str] = []          # earlier messages, oldest first
->
desk: Literal["billing", "tech", "sales"]
urgency: int                     # 1 (can wait) to 5 (now)
"""


def test_a_signature_cell_binds_and_shows_the_card(shell):
    shell.run(TRIAGE)
    triage = shell.user_ns["Triage"]
    assert isinstance(triage, dx.Signature)
    assert triage.instructions == "Route a customer message to the right desk."
    assert list(triage.inputs) == ["message", "history"]
    assert not triage.inputs["history"].required
    assert triage.outputs["urgency"].desc == "1 (can wait) to 5 (now)"
    (card,) = shell.displayed
    for said in ("Triage", "what the customer wrote", "billing", "JSON schema"):
        assert said in card["text/html"]
    assert "Triage" in card["text/plain"]
    shell.run("Triage")
    assert "signature Triage" in shell.stdout


def test_one_line_of_dspys_syntax_and_quiet(shell):
    shell.run("%%signature --quiet QA\nquestion, context: list[str] -> answer: str")
    assert list(shell.user_ns["QA"].inputs) == ["question", "context"]
    assert shell.displayed == []


def test_classes_of_the_notebook_are_types(shell):
    shell.run("import enum\nclass Mood(enum.Enum):\n    GOOD = 'good'\n    BAD = 'bad'")
    shell.run("%%signature Feel\ntext: str\n->\nmood: Mood")
    assert shell.user_ns["Feel"].outputs["mood"].type is shell.user_ns["Mood"]


def test_the_adapter_of_the_card(shell):
    shell.run("%%signature --adapter chat S\na -> b")
    assert "[[ ## b ## ]]" in shell.displayed[0]["text/html"]
    with pytest.raises(MagicUsageError, match="chat, json, compact"):
        shell.run("%%signature --adapter xml S\na -> b")


# -- %%pipeline ---------------------------------------------------------------------------------------------------------------


def test_a_pipeline_cell_binds_shows_and_runs(ready, lm):
    ready.run("def tidy(message: str) -> str:\n    return message.strip()")
    pipe = ready.run("%%pipeline support\nmessage: str\ntext = native(tidy)\na = predict('message -> desk', message=text)\n")
    assert isinstance(pipe, dx.Pipeline)
    assert pipe is ready.user_ns["support"]
    assert ready.displayed[0]["text/vnd.mermaid"].startswith(("flowchart", "graph"))
    assert "native" in ready.displayed[0]["text/plain"]  # the routes
    assert lm.requests == []
    done = ready.run("support(message='  x ')")
    assert done.desk == "billing"
    assert done.fields["text"] == "x"


def test_inputs_run_it(ready, lm):
    done = ready.run(f"%%pipeline p --inputs message='charged twice'\n{PREDICT}")
    assert done.desk == "billing"
    assert "charged twice" in lm.requests[0].messages[-1]["content"]
    with pytest.raises(MagicUsageError, match="name=value"):
        ready.run(f"%%pipeline p --inputs message\n{PREDICT}")


def test_inputs_keep_their_types(ready):
    ready.run("def kind(x, y):\n    return [type(x).__name__, type(y).__name__, y]\nlines = ['two words', 'b']")
    assert ready.run("%%pipeline p --inputs x=123 y={lines}\nx: str\ny: list[str]\nk = native(kind)").k == [
        "str",
        "list",
        ["two words", "b"],
    ]
    assert ready.run("%%pipeline p --inputs x=123 y='[1]'\nx: int\ny: list[int]\nk = native(kind)").k == ["int", "list", [1]]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("['a', 'b c', \"it's\"]", ["a", "b c", "it's"]),
        ("[1, [2, 3]]", [1, [2, 3]]),
        ("[']', '[']", ["]", "["]),
        ("'[\"a b\"]'", ["a b"]),
    ],
)
def test_a_list_is_written_as_in_python(ready, written, value):
    ready.run("def same(y):\n    return y")
    done = ready.run(f"%%pipeline p --inputs x='see a=[1 and b=[2] here' y={written}\nx: str\ny: list\nk = native(same)")
    assert (done.k, done.fields["x"]) == (value, "see a=[1 and b=[2] here")


def test_a_text_is_no_list(ready):
    ready.run("def same(y):\n    return y")
    with pytest.raises(MagicUsageError, match=r"--inputs y: the text '\[a' is no list") as caught:
        ready.run("%%pipeline p --inputs y=[a\ny: list[str]\nk = native(same)")
    assert "['a', 'b']" in caught.value.hint
    with pytest.raises(MagicUsageError, match="no variable 'lins'"):
        ready.run("%%pipeline p --inputs y={lins}\ny: list[str]\nk = native(same)")


def test_plan_runs_nothing(ready, lm):
    ready.run(f"%%pipeline p --plan --inputs message=x\n{PREDICT}")
    assert lm.requests == []
    assert "why" in ready.displayed[0]["text/plain"]


def test_map(ready):
    frame = ready.run(f"%%pipeline p --map rows --n-jobs 2\n{PREDICT}")
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["message"]) == [row["message"] for row in ROWS]
    assert list(frame["desk"]) == ["billing"] * 6


def test_background_returns_at_once(ready):
    held = threading.Event()
    ready.user_ns["hold"] = lambda message: held.wait(5)
    assert ready.run("%%pipeline p --background --inputs message=x\nmessage: str\na = native(hold)") is None
    run = ready.user_ns["p_run"]
    assert run.status == "running"
    assert any(state in ready.displayed[0]["text/plain"] for state in ("running", "waiting"))
    held.set()
    assert run.result(5).a is True
    ready.run("p_run")
    assert "done" in ready.displayed[0]["text/plain"]


def test_export_is_plain_python(ready, tmp_path):
    ready.user_ns["target"] = str(tmp_path / "p.py")
    ready.run(f"%%pipeline p --export {{target}} --quiet\n{PREDICT}")
    text = (tmp_path / "p.py").read_text()
    assert "get_ipython" not in text
    assert "%%" not in text
    assert dx.load(tmp_path / "p.py", trust=True)(message="x").desk == "billing"


def test_export_makes_its_folder_and_says_where_it_cannot_write(ready, tmp_path):
    ready.run(f"%%pipeline support --export {tmp_path}/new/support.py --quiet\n{PREDICT}")
    assert (tmp_path / "new" / "support.py").exists()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        ready.run(f"%%pipeline support --export {tmp_path}/file/support.py\n{PREDICT}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--map rows --inputs message=x", "--map and --inputs exclude each other"),
        ("--map rows --background", "--map and --background exclude each other"),
        ("--background", "--background needs --inputs"),
    ],
)
def test_options_of_which_one_would_be_ignored_are_refused(ready, lm, options, told):
    with pytest.raises(MagicUsageError, match=told):
        ready.run(f"%%pipeline support {options}\n{PREDICT}")
    assert not lm.requests


@pytest.mark.parametrize("name", ["9x", "my-name", "class"])
@pytest.mark.parametrize("cell", ["%%signature {}\nx -> y", "%%pipeline {}\na = predict('x -> y')"])
def test_a_name_that_no_cell_could_use_is_refused(ready, name, cell):
    with pytest.raises(MagicUsageError, match=f"'{name}' is no Python name") as caught:
        ready.run(cell.format(name))
    assert caught.value.hint.startswith("write e.g. %%")
    assert name not in ready.user_ns


def test_quiet_shows_nothing(ready):
    assert ready.run(f"%%pipeline p --quiet\n{PREDICT}") is None
    assert ready.displayed == []


def test_a_parallel_pair_a_template_and_chain_of_thought(ready, lm):
    lm._wire._answer = lambda request: '{"reasoning": "so", "mood": "calm", "desk": "tech", "summary": "s"}'
    ready.run("def count(text: str) -> int:\n    return len(text.split())")
    cell = (
        "%%pipeline support --inputs text='two words'\ntext: str\n"
        "signs = parallel(mood=predict(\"text -> mood: Literal['calm', 'upset']\"), words=count)\n"
        "gist = chain_of_thought('text -> summary')\n"
        "note = template('{{ signs.mood }} / {{ signs.words }}: {{ summary }} ({{ why }})', why=gist.reasoning)\n"
    )
    assert ready.run(cell).note == "calm / 2: s (so)"


def test_retrieval_steps_run_in_a_cell(ready, lm):
    lm._wire._answer = lambda request: '{"answer": "Clouds are drops [1]."}'
    ready.user_ns["topics"] = ["clouds are drops of water", "stones are hard"]
    cell = (
        "%%pipeline ask --inputs query='what are clouds'\nquery: str\nhits = retriever('bm25', index=topics, k=2)\n"
        "answer = predict('query, passages: list[str] -> answer', passages=hits)\nreport = respond(answer, passages=hits)"
    )
    assert ready.run(cell).report.citations[0].excerpt == "clouds are drops of water"


def test_a_cell_without_a_name_says_what_to_write(ready):
    with pytest.raises(MagicUsageError, match=r"(?s)%%pipeline needs a name after it.*write e.g. %%pipeline support"):
        ready.run(f"%%pipeline\n{PREDICT}")
    with pytest.raises(MagicUsageError, match="is no Python name"):
        ready.run(f"%%pipeline 5x\n{PREDICT}")


def test_plan_with_data_runs_nothing_either(ready, lm):
    ready.run(f"%%pipeline p --plan --map rows\n{PREDICT}")
    assert lm.requests == []
    assert "1 round; 1 model call" in ready.displayed[0]["text/plain"]
    assert "1 round; 1 model call" in ready.displayed[0]["text/html"]


def test_redraw_shows_the_picture_after_the_run_and_gives_the_result(ready):
    done = ready.run(f"%%pipeline p --wait --redraw --inputs message=x\n{PREDICT}")
    assert done.desk == "billing"
    assert ready.displayed[0]["text/vnd.mermaid"].startswith("flowchart")
    with pytest.raises(MagicUsageError, match="exclude each other"):
        ready.run(f"%%pipeline p --wait --background --inputs message=x\n{PREDICT}")


def test_mermaid_text_is_the_pictures(ready):
    pipe = ready.run(f"%%pipeline p\n{PREDICT}")
    assert pipe.mermaid().splitlines()[0] == "flowchart LR"


# -- %evaluate ----------------------------------------------------------------------------------------------------------------


def test_evaluate_shows_once_and_returns(ready):
    evaluation = ready.run("%evaluate p --data rows --metrics exact_match:desk,f1")
    assert evaluation.scores == {"exact_match:desk": 0.5, "f1": 0.5}
    assert [set(bundle) for bundle in ready.displayed] == [{"text/html", "text/plain"}]
    ready.run("before = %evaluate p --data rows --name first")
    assert len(ready.displayed) == 1
    assert "first" in ready.displayed[0]["text/plain"]
    ready.run("before")
    assert len(ready.displayed) == 1


def test_evaluate_with_a_metric_in_its_body(ready):
    cell = "%%evaluate p --data rows\nimport math\ndef helper(x):\n    return x\ndef right(example, prediction, trace=None):\n"
    evaluation = ready.run(f"{cell}    return helper(example.desk == prediction.desk)\n")
    assert evaluation.scores == {"right": 0.5}
    assert "right" in ready.user_ns  # a body of Python runs as a cell does


def test_evaluate_with_options_in_its_body(ready):
    ready.user_ns["metric"] = lambda example, prediction: 0.25  # of another cell: not meant
    ready.user_ns["name"] = "mine"
    evaluation = ready.run("%%evaluate p\ndata = rows[:4]\nmetrics = ['f1', 'contains']\nn_jobs = 2\nname = 'four'")
    assert list(evaluation.scores) == ["f1", "contains"]
    assert len(evaluation.frame) == 4
    assert evaluation.name == "four"
    assert ready.user_ns["name"] == "mine"
    assert "n_jobs" not in ready.user_ns
    assert len(ready.run("%%evaluate p --data rows\ndata = rows[:4]\n").frame) == 6  # the line wins
    frame = "data = dx.__class__ and __import__('pandas').DataFrame(rows)"
    assert len(ready.run(f"%%evaluate p\n{frame}").frame) == 6
    assert ready.run("%%evaluate p --data rows\nmetric = lambda example, prediction: 1").score == 1
    assert list(ready.run("%%evaluate p --data rows\nmetric = 'f1'").scores) == ["f1"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("metrcs = 'f1'", "did you mean '--metrics'"),
        ("for i in range(3):\n    pass", "def metric"),
        ("def (", "line 1"),
    ],
)
def test_bodies_that_cannot_be_used(ready, body, told):
    with pytest.raises(MagicUsageError) as raised:
        ready.run(f"%%evaluate p --data rows\n{body}")
    assert told in str(raised.value)


def test_an_empty_body_is_told_kindly(ready, capsys):
    from IPython.core.error import UsageError

    with pytest.raises(UsageError, match="Did you mean the line magic %evaluate"):
        ready.run("%%evaluate p --data rows\n")
    with pytest.raises(MagicUsageError, match="is empty"):
        ready.shell.run_cell_magic("evaluate", "p --data rows", "  \n")


# -- %optimize ----------------------------------------------------------------------------------------------------------------


def test_options_in_the_body_of_optimize_reach_the_optimizer(ready, monkeypatch):
    got = {}

    class Study:
        def show_once(self):
            got["shown"] = True

    def optimize(program, **options):
        got.update(options, program=program)
        return Study()

    monkeypatch.setattr("dspex_nb.magics.optimize.api.optimize", optimize)
    line = "%%optimize p --optimizer BootstrapFewShot --trainset rows --seed 3 --budget '$0.50' --max-rounds 2"
    ready.run(f"{line}\nmax_bootstrapped_demos = 1\nmetric = 'f1'\n")
    assert got["program"] is ready.user_ns["p"]
    assert got["metric"] == "f1"
    assert (got["seed"], got["max_rounds"], got["max_bootstrapped_demos"]) == (3, 2, 1)
    assert float(got["budget"].lstrip("$")) == 0.5
    assert got["shown"]
    ready.run(
        "%%optimize p --trainset rows\noptimizer = 'BootstrapFewShot'\ndef right(example, prediction, trace=None):\n    return 1\n"
    )
    assert got["optimizer"] == "BootstrapFewShot"
    assert got["metric"] is ready.user_ns["right"]


# -- %dspex -------------------------------------------------------------------------------------------------------------------


def test_the_session_at_a_glance(ready, lm):
    ready.run("p(message='a')\np(message='a')")
    status = ready.run("%dspex status")
    assert status.info.lm == "scripted/test"
    assert (status.info.calls, status.info.cache_hits) == (1, 1)
    for command in ("cache", "pools", "runs", "doctor"):
        shown = ready.run(f"%dspex {command}")
        assert shown.text
        assert ready.displayed[0]["text/html"].lstrip().startswith("<")
    ready.run("%dspex cache --clear")
    ready.run("p(message='a')")
    assert len(lm.requests) == 2


def test_the_cache_is_shown_trimmed_and_cleared(ready, lm):
    ready.run("p(message='a')\np(message='a')\np(message='b', ttl_s=0.05)")
    shown = ready.run("%dspex cache")
    assert (shown.info.hits_memory, shown.info.misses, shown.info.entries) == (1, 2, 2)
    assert "Answered from" in shown.text
    assert "33%" in shown.text
    time.sleep(0.06)
    assert "trimmed: 1 response " in ready.run("%dspex cache trim").text
    assert ready.run("%dspex cache").info.entries == 1
    cleared = ready.run("%dspex cache clear")
    assert "cleared: 1 response " in cleared.text
    assert (cleared.info.entries, cleared.info.memory_entries, cleared.info.size_bytes) == (0, 0, 0)
    ready.run("p(message='a')")
    assert len(lm.requests) == 3
    with dx.context(cache=None):
        assert "cache off" in api.cache_status().text


@pytest.mark.parametrize("line", ["cache trmi", "cache trim --clear", "status trim"])
def test_a_cache_command_that_is_none_is_refused(shell, line):
    with pytest.raises(MagicUsageError):
        shell.run(f"%dspex {line}")


def test_runs_are_listed(ready):
    ready.run("%evaluate p --data rows --name third")
    dx.session().store.flush()
    assert any("third" in row for row in ready.run("%dspex runs").info)


def test_the_lm_is_set_with_its_options(shell):
    shell.run("%dspex lm openai/m --api-base http://127.0.0.1:9/v1 --temperature 0.5 --max-tokens 30")
    lm = dx.session().lm
    assert lm.model == "openai/m"
    assert lm.options == {"temperature": 0.5, "max_tokens": 30}
    assert "openai/m is ready" in shell.stdout
    with pytest.raises(MagicUsageError, match="needs a model string"):
        shell.run("%dspex lm")
    with pytest.raises(MagicUsageError, match="takes no 'all'"):
        shell.run("%dspex cache all")


def test_cells_that_await(ready):
    ready.shell.autoawait = True
    assert ready.run("(await p.acall(message='a')).desk") == "billing"
    assert asyncio.iscoroutinefunction(ready.user_ns["p"].acall)


def test_evaluate_compares_saves_limits_and_goes_on(ready, tmp_path):
    before = ready.run("%evaluate p --data rows --metrics exact_match:desk")
    ready.user_ns["before"] = before
    page = tmp_path / "e.html"
    line = (
        f"%evaluate p --data rows --metrics exact_match:desk --compare before --save {page} --timeout 1m --deadline 2m --resume"
    )
    after = ready.run(line)
    assert after.id != before.id  # the first one is done: nothing to go on with
    assert "<!doctype html>" in page.read_text()
    assert any("It changed nothing" in shown.get("text/plain", "") for shown in ready.displayed)
