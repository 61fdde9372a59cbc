"""The steps that DSPy serves run on a recorded model, those that write code in the real sandbox."""

import importlib.util
import json
import subprocess
import sys
import threading
import time

import dspy
import psutil
import pytest

from dspex_nb.bridge import making
from dspex_nb.bridge.lm import Stopped
from dspex_nb.bridge.sandbox import Sandbox
from dspex_nb.errors import DSPexError, PlanError, StepError
from dspex_nb.pipelines import read_cell
from dspex_nb.scopes import CancelToken

TEXT = {"reasoning": "r", "answer": "an animal"}

needs_npm = pytest.mark.services  # at its first start the sandbox loads Pyodide from the npm registry


def look_up(word: str, exact: bool = True) -> str:
    """Look a word up in the dictionary."""
    CALLED.append((word, exact))
    return f"{word}: an animal"


async def look_up_later(word: str) -> str:
    """Look a word up, asynchronously."""
    CALLED.append((word, "later"))
    return f"{word}: an animal"


CALLED: list[tuple[str, object]] = []
NAMES = {"upper": "a".upper, "look_up": look_up, "look_up_later": look_up_later, "dspy": dspy}


@pytest.fixture(autouse=True)
def _fresh():
    CALLED.clear()


@pytest.mark.parametrize("tool", ["look_up", "look_up_later"])
def test_react_calls_plain_functions_by_their_names_docs_and_types(run, tool):
    answers = [
        {"next_thought": "t", "next_tool_name": tool, "next_tool_args": {"word": "cat"}},
        {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}},
        TEXT,
    ]
    body = f'q: str\na = react("q -> answer", tools=[{tool}], max_iters=3)\nb = template("{{{{ answer }}}}, {{{{ a.trajectory.tool_name_0 }}}}")'
    got = run(body, answers, names=NAMES, q="What is a cat?")
    assert got.b == f"an animal, {tool}"
    assert [word for word, _ in CALLED] == ["cat"]
    told = got.requests[0].messages[0]["content"]
    assert tool in told
    assert "Look a word up" in told
    if tool == "look_up":
        assert "'exact': {'type': 'boolean'" in told


def test_react_v2_calls_its_tools(run):
    def answer(request):
        asked = len([one for one in request.messages if one["role"] == "assistant"])
        call = (
            {"name": "look_up", "arguments": '{"word": "cat"}'}
            if not asked
            else {"name": "submit", "arguments": '{"answer": "an animal"}'}
        )
        message = {"role": "assistant", "content": "", "tool_calls": [{"id": f"c{asked}", "type": "function", "function": call}]}
        return {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}], "usage": {}}

    got = run('q: str\na = react_v2("q -> answer", tools=[look_up], max_iters=4)', answer, names=NAMES, adapter="chat", q="?")
    assert got.answer == "an animal"
    assert CALLED == [("cat", True)]


needs_deno = pytest.mark.skipif(importlib.util.find_spec("deno") is None, reason="pip install deno")


@needs_deno
@needs_npm
def test_program_of_thought_runs_what_the_model_wrote_in_the_sandbox(run):
    answers = [
        {"reasoning": "r", "generated_code": "```python\nSUBMIT({'n': sum(range(10))})\n```"},
        {"reasoning": "r", "answer": "45"},
    ]
    got = run('q: str\na = program_of_thought("q -> answer: int", max_iters=2)', answers, q="The sum of 0 to 9?")
    assert got.answer == 45
    assert "45" in got.prompts[1]  # what the code gave, not what the model made up


@needs_deno
@needs_npm
def test_code_act_calls_its_tools_from_the_models_code(run):
    answers = [{"generated_code": "print(triple(7))", "finished": True}, {"reasoning": "r", "answer": "21"}]
    got = run('q: str\na = code_act("q -> answer: int", tools=[triple], max_iters=2)', answers, names={"triple": triple}, q="?")
    assert got.answer == 21
    assert "21" in got.prompts[1]


def triple(n: int) -> int:
    """Return three times n."""
    return 3 * n


@needs_deno
@needs_npm
def test_rlm_reads_its_input_by_code(run):
    answers = [{"reasoning": "r", "code": "SUBMIT(answer=len(text.split()))"}]
    got = run('text: str\na = rlm("text -> answer: int", max_iters=2)', answers, text="one two three")
    assert got.answer == 3


@needs_deno
@needs_npm
@pytest.mark.parametrize("kind", ["program_of_thought", "code_act", "rlm"])
def test_code_that_never_ends_is_ended_with_its_step(run, kind, monkeypatch):
    made = []
    monkeypatch.setattr(Sandbox, "_spawn_process", lambda self: made.append(self) or dspy.PythonInterpreter._spawn_process(self))
    code = "print('x')\nwhile True:\n    pass"
    answer = json.dumps({"reasoning": "r", "generated_code": code, "code": code, "finished": False})
    tools = ", tools=[triple]" if kind == "code_act" else ""
    body = f'q: str\na = {kind}("q -> answer"{tools}, timeout_s=15, on_error=said)'
    got = run(body, lambda request: answer, names={"triple": triple, "said": lambda q: "too long"}, q="?")
    assert got.answer == "too long"
    process = made[0].deno_process
    assert process is None or process.wait(20) is not None
    assert len(got.requests) == 1  # nobody asked for better code


NEVER_ENDS = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["params"]["code"] != "print(1+1)":
        print(json.dumps({"method": "running"}), flush=True)
        while True: pass
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"output": "2"}}), flush=True)
"""


def test_a_stop_kills_the_sandbox_and_raises_through_dspy():
    cancel = CancelToken()
    sandbox = Sandbox(deno_command=[sys.executable, "-c", NEVER_ENDS], cancel=cancel)
    sandbox.start()
    process = sandbox.deno_process
    waiting = threading.Timer(0.2, cancel.cancel)
    waiting.start()
    with pytest.raises(Stopped):
        sandbox.execute("while True: pass")
    sandbox.shutdown()
    assert process.poll() is not None
    with pytest.raises(Stopped):
        Sandbox(deno_command=["false"], cancel=cancel).execute("1")


def test_the_end_of_the_process_ends_its_sandboxes(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text(
        "import sys, threading\nfrom dspex_nb.bridge.sandbox import Sandbox\n"
        f"box = Sandbox(deno_command=[sys.executable, '-c', {NEVER_ENDS!r}])\nbox.start()\nprint(box.deno_process.pid)\n"
        "threading.Thread(target=box._send_request, args=('execute', {'code': 'x'}, ''), daemon=True).start()\n"
    )
    pid = int(subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it runs on"
        time.sleep(0.05)


def test_no_deno_is_said_before_any_call(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(PlanError, match=r"(?s)line 2.*Deno is not installed.*→ pip install deno"):
        run('q: str\na = rlm("q -> answer")', [], q="?")


def test_best_of_n_and_refine_keep_the_best_of_the_step_they_hold(run):
    said = iter(["one two", "one two three", "one"])

    def answer(request):
        return json.dumps({"answer": next(said)})

    body = 'q: str\na = {}(predict("q -> answer"), N=3, reward_fn=lambda args, got: 1.0 if len(got.answer.split()) == 1 else 0.0, threshold=1.0)'
    got = run(body.format("best_of_n"), answer, q="?")
    assert got.answer == "one"
    assert len(got.requests) == 3
    assert "reasoning" not in got.requests[0].messages[0]["content"]  # predict was asked for, not a chain of thought
    got = run(body.format("refine"), [{"answer": "one"}], q="?")
    assert got.answer == "one"
    with pytest.raises(StepError, match=r"step 'a'.*does not hold 'answer'"):
        run(body.format("best_of_n"), lambda request: "no JSON", q="?")


def test_multi_chain_comparison_compares_in_dspy(run):
    def answer(request):
        comparing = "reasoning_attempt_1" in request.messages[0]["content"]
        return json.dumps({"rationale": "both", "answer": "best"} if comparing else {"reasoning": "r", "answer": "some"})

    got = run(
        'q: str\na = multi_chain_comparison("q -> answer", chains=2)\nb = template("{{ answer }} {{ a.rationale }}")',
        answer,
        q="?",
    )
    assert got.b == "best both"


def test_knn_shows_the_nearest_examples(run):
    rows = [
        {"q": "a cat sleeps", "answer": "CAT"},
        {"q": "the sky is blue", "answer": "SKY"},
        {"q": "a cat eats", "answer": "EATS"},
    ]
    got = run('q: str\na = knn("q -> answer", k=1, trainset=rows)', [{"answer": "x"}], names={"rows": rows}, q="the sky")
    told = json.dumps(got.requests[0].messages)
    assert "SKY" in told
    assert "CAT" not in told
    named = {"rows": rows, "embed": lambda texts: [[float("cat eats" in text), 1.0] for text in texts]}
    got = run(
        'q: str\na = knn("q -> answer", k=1, trainset=rows, vectorizer=embed)', [{"answer": "x"}], names=named, q="cat eats"
    )
    assert "EATS" in json.dumps(got.requests[0].messages)


def test_knn_keeps_its_neighbours_though_another_thread_pushes_them_out(run, monkeypatch):
    class Pushed(dict):
        def __setitem__(self, key, value):
            """Forget at once, as where other steps fill it meanwhile."""

    monkeypatch.setattr(making, "_FOUND", Pushed())
    rows = [{"q": "the sky above", "answer": "blue"}]
    assert (
        run('q: str\na = knn("q -> answer", k=1, trainset=rows)', [{"answer": "x"}], names={"rows": rows}, q="the sky").answer
        == "x"
    )


class Echo(dspy.Module):
    def __init__(self, times=1):
        super().__init__()
        self.times, self.ask = times, dspy.Predict("q -> answer")

    def forward(self, q):
        return dspy.Prediction(answer=self.ask(q=q).answer * self.times)


@pytest.mark.parametrize("how", ["Echo(times=2)", "module(Echo, times=2)", "made", "made(q=q)", 'module(made, "q -> answer")'])
def test_any_module_class_or_instance(run, how):
    got = run(f"q: str\na = {how}", [{"answer": "ab"}], names={"Echo": Echo, "made": Echo(2)}, q="?")
    assert next(iter(got.prediction.values())) == "abab"


def test_a_module_class_that_takes_a_signature(run):
    got = run('q: str\na = dspy.ChainOfThought("q -> answer", temperature=0.3)', [TEXT], names=NAMES, q="?")
    assert got.answer == "an animal"
    assert got.requests[0].options["temperature"] == 0.3


def test_reasoning_extraction_and_a_custom_reasoning_field_are_served_by_dspy(run):
    body = 'q: str\na = chain_of_thought("q -> answer", {})\nb = template("{{{{ a.reasoning }}}}")'
    got = run(body.format("reasoning_extraction=True"), [TEXT], q="?")
    assert got.b == "r"
    field = dspy.OutputField(desc="think like a pirate")
    got = run(body.format("advanced=True, rationale_field=field"), [TEXT], names={"field": field}, q="?")
    assert got.b == "r"
    assert "think like a pirate" in got.requests[0].messages[0]["content"]


def test_dspy_steps_stand_in_parallel_in_maps_and_behind_fallbacks(run):
    body = (
        'qs: list[str]\neach = chain_of_thought("q -> answer", q=qs, over=qs, engine="dspy")\n'
        'both = parallel(predict("q -> left", engine="dspy"), predict("q -> right"), q=qs)'
    )

    def answer(request):
        return json.dumps(
            {name: name for name in ("reasoning", "answer", "left", "right") if f"`{name}`" in request.messages[-1]["content"]}
        )

    got = run(body, answer, qs=["a", "b"])
    assert got.fields["answer"] == ["answer", "answer"]
    assert got.both == {"left": "left", "right": "right"}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('react("q -> a")', "needs tools="), ('react("q -> a", tools=look_up)', "expected a list"), ('react("q -> a", tools=["x"])', "'x' is no function"),
        ('code_act("q -> a", tools=[lambda word: word])', "no plain function"), ('code_act("q -> a", tools=[look_up_later])', "no plain function"),
        ('code_act("q -> a", tools=[upper])', "no plain function"), ('react("q -> a", tools=[look_up], max_iters=0)', "whole number from 1"), ('knn("q -> a", k=1)', "needs trainset="),
        ('best_of_n("q -> a", N=0, reward_fn=len, threshold=1)', "whole number"), ('best_of_n("q -> a", N=2, threshold=1)', "needs reward_fn="),
        ('multi_chain_comparison("q -> a", aggregation="majorty")', "did you mean"), ('chain_of_thought("q -> a", advanced="yes")', "True or False"),
    ],
)  # fmt: skip
def test_impossible_options_are_refused_before_anything_runs(line, word):
    with pytest.raises(DSPexError, match=word) as caught:
        read_cell("p", f"q: str\na = {line}", NAMES)
    assert caught.value.line == 2


def test_a_deno_that_is_not_there_or_does_not_start_says_what_to_do():
    with pytest.raises(DSPexError, match=r"(?s)no fitting Deno is there.*→ pip install deno"):
        Sandbox(deno_command=["/nowhere/deno"]).execute("print(1)")
    with pytest.raises(DSPexError, match=r"(?s)did not start.*npm registry"):
        Sandbox(deno_command=["false"]).execute("print(1)")
