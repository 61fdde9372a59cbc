from __future__ import annotations

import asyncio
import copy

import dspy
import pytest
from dspy.utils import DummyLM

import dspex_nb as dx
from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.extending import Extended

TEXTS = [
    {"text": "loops repeat code", "title": "Loops", "year": 2020}, {"text": "classes group data", "title": "Classes", "year": 2021},
    {"text": "cats sleep all day", "title": "Cats", "year": 2021},
]  # fmt: skip


@pytest.fixture
def index():
    return dx.retriever("bm25", index=TEXTS, k=2)


def test_as_settings_rm(index):
    with dspy.context(rm=index.dspy):
        assert dspy.Retrieve(k=1)("group data").passages == ["classes group data"]
        found = dspy.settings.rm("code data", k=2, filter={"year": 2020})
    assert [one.long_text for one in found] == ["loops repeat code"]
    assert (found[0].title, found[0]["metadata"]["year"]) == ("Loops", 2020)
    assert found[0].score > 0


def test_as_a_retrieve_in_a_program(index):
    class Answers(dspy.Module):
        def __init__(self):
            super().__init__()
            self.retrieve = index.dspy
            self.answer = dspy.Predict("context: list[str], question -> answer")

        def forward(self, question):
            return self.answer(context=self.retrieve(question).passages, question=question)

    program = Answers()
    assert isinstance(index.dspy, dspy.Retrieve)
    copied = copy.deepcopy(program)
    assert copied.retrieve.retriever is index
    assert dict(program.named_parameters()).keys() == {"retrieve", "answer"}
    lm = DummyLM([{"answer": "code"}])
    with dspy.context(lm=lm):
        assert copied(question="what do loops repeat?").answer == "code"
    assert "loops repeat code" in str(lm.history[-1]["messages"])
    state = program.dump_state()
    copied.load_state(state)
    assert copied.retrieve.k == 2
    assert asyncio.run(index.dspy.acall("cats")).passages == ["cats sleep all day"]
    assert len(index.dspy(["loops", "cats"])) == 2


def test_as_a_tool_of_react(index):
    tool = index.as_tool("look_up", k=1)
    assert tool.name == "look_up"
    assert tool.args["query"]["type"] == "string"
    lm = DummyLM([
        {"next_thought": "search", "next_tool_name": "look_up", "next_tool_args": {"query": "cats"}},
        {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "it says so", "answer": "they sleep"},
    ])  # fmt: skip
    with dspy.context(lm=lm):
        found = dspy.ReAct("question -> answer", tools=[tool])(question="what do cats do?")
    assert found.answer == "they sleep"
    assert "Cats: cats sleep all day" in str(found.trajectory)


def test_before_anybody_makes_it(monkeypatch):
    from dspex_nb.retrieval import extending

    monkeypatch.setattr(extending, "_providers", {})
    with pytest.raises(RetrieverError, match="nobody makes the dspy"):
        Extended().dspy
