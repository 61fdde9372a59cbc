"""An exported pipeline, run in a process of its own against a real server, gives what the notebook's gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import dspex_nb as dx
from dspex_nb.api.pipelines import Pipeline
from dspex_nb.pipelines import read_cell

CELLS = '''
LIMIT = 12

def shorten(text: str) -> str:
    return text[:LIMIT]

def upper(text: str) -> str:
    """Return text in capitals."""
    return text.upper()

def reward(arguments, prediction) -> float:
    return 1.0

class Ask(dspy.Module):
    def __init__(self, mark: str = "!"):
        super().__init__()
        self.mark, self.ask = mark, dspy.Predict("text -> loud")
    def forward(self, text: str):
        return self.ask(text=text + self.mark)

texts = ["the moon is far", "the sun is hot", "a cat sleeps"]
made = dspy.Predict("text -> made")
'''
INPUTS = {"text": "the moon and the sun", "words": ["a", "bb"], "k": 2}
BODY = "text: str\nwords: list[str]\nk: int = 2\n"
STEPS = {
    "function": "a = shorten\nb = native(lambda a: a.upper(), 'a -> b')",
    "predict": "p = predict('text -> desk, urgency: int', temperature=0.2)",
    "chain_of_thought": "c = chain_of_thought('text -> why')\nd = template('{{ r }}!', r=c.reasoning)",
    "parallel": "both = parallel(shorten, tone=predict('text -> tone'))",
    "conditions": (
        "x = predict('word -> label', word=words, over=words)\ny = predict('text -> y', when=k > 5)\nz = native(len, 'label -> n: int')"
    ),
    "template call": "t = template('Say {{ text }}', call=True)",
    "module": "m = Ask(mark='?')",
    "module made": "m = made",
    "best_of_n": "b = best_of_n(predict('text -> best'), N=2, reward_fn=reward, threshold=0.5)",
    "votes": "v = multi_chain_comparison('text -> vote', chains=2, aggregation='majority')",
    "retrieval": (
        "hits = retriever('bm25', index=texts, k=2, query=text)\nranked = rerank(hits, query=text, k=1, method='mmr')\n"
        "ans = predict('text, passages: list[str] -> ans', passages=ranked)\nrep = respond(ans, passages=ranked)"
    ),
}  # fmt: skip
RUN = """
import json, runpy, sys
import dspex_nb as dx
dx.configure(lm=dx.LM("openai/m", api_base=sys.argv[1], api_key="x", cache=False), adapter="chat")
found = {}
for name in sys.argv[3:]:
    space = runpy.run_path(f"{sys.argv[2]}/{name}.py", run_name="exported")
    found[name] = {key: str(value) for key, value in space["p"](**json.loads(INPUTS)).to_dict().items()}
print(json.dumps(found))
"""


@pytest.fixture
def cells(shell):
    """The user's namespace after running cells in a shell, as in a notebook."""
    shell.run("import dspy")
    shell.run(CELLS)
    return shell.user_ns


def run_here_and_in_a_fresh_process(steps, cells, server, folder):
    """Return what each pipeline gives here, after checking that its files give the same, loaded and in another process."""
    dx.configure(lm=dx.LM("openai/m", api_base=server.url, api_key="x", cache=False), adapter="chat")
    here = {}
    for title, lines in steps.items():
        name = title.replace(" ", "_")
        pipe = Pipeline.of(read_cell("p", BODY + lines, cells))
        pipe.save(folder / f"{name}.py")
        pipe.save(folder / f"{name}.json")
        here[name] = {key: str(value) for key, value in pipe(**INPUTS).to_dict().items()}
        again = dx.load(folder / f"{name}.json", trust=True)
        assert {key: str(value) for key, value in again(**INPUTS).to_dict().items()} == here[name]
    sent = len(server.bodies)
    script = folder / "run.py"
    script.write_text(f"INPUTS = {json.dumps(INPUTS)!r}\n{RUN}")
    done = subprocess.run(
        [sys.executable, script, server.url, folder, *here],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "DSPEX_HOME": str(folder / "other")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == here
    assert len(server.bodies) > sent
    return here


def test_the_exported_files_give_the_same_in_a_fresh_process(cells, chat_server, tmp_path):
    run_here_and_in_a_fresh_process(STEPS, cells, chat_server, tmp_path)
    text = (tmp_path / "function.py").read_text()
    assert "def shorten" in text
    assert "LIMIT = 12" in text
    assert "%%" not in text


CODE = {
    "program_of_thought": "a = program_of_thought('text -> total: int', max_iters=2)",
    "code_act": "c = code_act('text -> said', tools=[upper], max_iters=2)",
    "rlm": "r = rlm('text -> count: int', max_iters=2)",
}


@pytest.mark.services  # at its first start the sandbox loads Pyodide from the npm registry
def test_exported_steps_that_write_code_run_it_in_a_fresh_process(cells, model_server, asked, tmp_path):
    def answer(body):
        text = body["messages"][-1]["content"]
        said = {"code": "SUBMIT(count=len(text.split()))", "generated_code": "SUBMIT({'total': 6 * 7})", "finished": "True"}
        if "upper" in body["messages"][0]["content"]:
            said["generated_code"] = "print(upper('abc'))"
        seen = "42" if "42" in text else "ABC" if "ABC" in text else "0"  # only what the code gave can be told
        parts = [f"[[ ## {name} ## ]]\n{said.get(name, seen)}" for name in asked(text)]
        return "\n\n".join([*parts, "[[ ## completed ## ]]"])

    here = run_here_and_in_a_fresh_process(CODE, cells, model_server(answer), tmp_path)
    assert here["program_of_thought"]["total"] == "42"
    assert here["code_act"]["said"] == "ABC"
    assert here["rlm"]["count"] == "5"
