from __future__ import annotations

import json
import time

import pytest

import dspex_nb as dx
from dspex_nb.adapters import DSPY_ADAPTERS, get_adapter
from dspex_nb.ambient import Session
from dspex_nb.clients import connect
from dspex_nb.errors import PlanError
from dspex_nb.events import Bus
from dspex_nb.pipelines import OPTIONS, read_cell
from dspex_nb.pools import Pools
from dspex_nb.retrieval import retriever
from dspex_nb.routing import plan
from dspex_nb.routing.capabilities import TABLE
from dspex_nb.runs.scheduler import execute
from dspex_nb.scopes import Scope
from dspex_nb.testing.scripted import ScriptedLM


def clean(text):
    return text


def planned(body, session=None, **names):
    return plan(read_cell("p", body, {"clean": clean, **names}), session or Session(lm=ScriptedLM([]), adapter="compact"))


def test_every_step_has_an_engine_and_a_full_sentence_why():
    found = planned(
        "text: str\n"
        "tidy = native(clean, text=text)\n"
        'label = predict("tidy: str -> desk: str, urgency: int")\n'
        'why = chain_of_thought("tidy -> because", engine="dspy")\n'
        'note = template("{{ desk }}")\n'
        'pair = parallel(a=native(clean, text=text), b=predict("text -> summary"))'
    )
    assert {route.step: route.engine for route in found.routes} == {
        "tidy": "python", "label": "native", "why": "dspy", "note": "python", "pair": "python", "pair.a": "python", "pair.b": "native",
    }  # fmt: skip
    assert found["label"].reason == "native: the compact adapter serves str and int exactly"
    assert found["why"].reason == "dspy: engine='dspy' was asked for"
    assert found["pair"].reason == "python: its 2 steps run at once"
    assert all(route.reason.startswith(f"{route.engine}: ") for route in found.routes)
    assert found.needs_lm
    assert not planned("text: str\ntidy = native(clean, text=text)").needs_lm


def test_it_prints_as_a_table():
    lines = str(planned("text: str\ntidy = native(clean, text=text)")).splitlines()
    assert lines[0].split() == ["round", "step", "engine", "pool", "calls", "why"]
    assert lines[1].split()[:5] == ["1", "tidy", "python", "kernel", "python:"]
    assert lines[2] == "1 round; no model calls"


def test_an_adapter_that_only_dspy_has_goes_to_dspy():
    found = planned('text: str\na = predict("text -> answer", adapter="xml")')
    assert (found["a"].engine, found["a"].reason) == ("dspy", "dspy: the xml adapter is DSPy's own")
    with pytest.raises(PlanError, match=r"line 2.*cannot serve it exactly"):
        planned('text: str\na = predict("text -> answer", adapter="xml", engine="native")')


def test_what_has_no_sense_is_refused_with_its_line():
    with pytest.raises(PlanError, match="line 2"):
        planned('text: str\na = native(clean, text=text, engine="dspy")')


def test_pools_are_named_and_checked():
    pools = Pools()
    pools.create("side", 3, "thread")
    pools.create("apart", 2, "loky")
    session = Session(lm=ScriptedLM([]), pools=pools)
    found = planned('text: str\na = native(clean, text=text, pool="apart")', session)
    assert (found["a"].pool, found["a"].reason) == ("apart", "python: a Python function runs in pool 'apart' (2 processes)")
    found = planned('text: str\na = predict("text -> answer", pool="apart")', session)
    assert (found["a"].engine, found["a"].pool) == ("native", "apart")
    with pytest.raises(PlanError, match="line 2: step 'a': there is no pool 'sde'") as caught:
        planned('text: str\na = native(clean, text=text, pool="sde")', session)
    assert "did you mean 'side'?" in caught.value.hint
    with pytest.raises(PlanError, match="line 2: step 'a': pool= has no meaning for a parallel step"):
        planned('text: str\na = parallel(x=clean, y=predict("text -> y"), pool="side")', session)
    with pytest.raises(PlanError, match="no pool"):
        planned('text: str\na = native(clean, text=text, pool="side")', Session())


@pytest.mark.parametrize(
    ("step", "pointed"),
    [
        ('predict("text -> x",\n  temperature=1, pool="sde")', "pool"),
        ('parallel(x=predict("text -> x"),\n  y=react("text -> y", tools=[clean], engine="native"))', "engine"),
        ('parallel(x=clean, y=predict("text -> y", engine="native", adapter="xml"))', "engine"),
        ('retriever(index,\n\n  query=text, pool="apart")', "pool"),
    ],
)
def test_the_caret_is_under_the_option_that_cannot_be(step, pointed):
    pools = Pools()
    pools.create("apart", 2, "loky")
    index = retriever("memory")
    with pytest.raises(PlanError) as caught:
        planned(f"text: str\na = {step}", Session(lm=ScriptedLM([]), pools=pools), index=index)
    _, line, caret, _ = str(caught.value).split("\n")
    assert line[caret.index("^") :].startswith(f"{pointed}=")
    outer = Session(lm=ScriptedLM([]), pools=pools)
    inner = read_cell("inner", f"text: str\na = {step}", {"clean": clean, "index": index})
    with pytest.raises(PlanError) as within:
        planned("text: str\nall = inner(text=text)", outer, inner=inner)
    assert str(within.value).split("\n")[1:3] == [line, caret]


def test_a_reduction_runs_in_processes_too():
    pools = Pools()
    pools.create("apart", 1, "loky")
    session = Session(pools=pools)
    spec = read_cell("p", 'ns: list[int]\na = reduce(add, over=ns, pool="apart")', {"add": lambda one, other: one + other})
    found = plan(spec, session)
    assert found["a"].reason == "python: a Python function runs in pool 'apart' (1 process) for each element"
    try:
        done = execute(spec, found, {"ns": [1, 2, 3]}, session=session, scope=Scope("run", Bus()))
    finally:
        pools.close()
    assert done.outputs == {"a": 6}


def test_inner_pipelines_have_their_routes_under_the_step():
    inner = read_cell("inner", "text: str\ntidy = native(clean, text=text)", {"clean": clean})
    found = planned("text: str\nall = inner(text=text)", inner=inner)
    assert [route.step for route in found.routes] == ["all", "all/tidy"]


# The table


BOTH = sorted({operation for operation, engine in TABLE if engine == "native" and (operation, "dspy") in TABLE})
SIGNATURE = "text, docs: list[str], limit: int = 3 -> topics: list[str], score: float, kind: Literal['a', 'b'], verdict"
ANSWER = {
    "reasoning": "because", "topics": ["x", "y"], "score": 0.5, "kind": "b", "verdict": "fine", "confidence": 0.7,
}  # fmt: skip
CELLS = {
    "predict": 'predict("{}"{})',
    "chain_of_thought": 'chain_of_thought("{}"{})',
    "multi_chain_comparison by votes": 'multi_chain_comparison("{}", chains=2, aggregation="weighted_vote"{})',
}


def recorded(adapter):
    def answer(request):
        asked = [name for name in ANSWER if name in str(request.messages[-1]["content"]) + str(request.messages[0]["content"])]
        if adapter == "chat":
            return "\n\n".join(f"[[ ## {name} ## ]]\n{ANSWER[name]}" for name in asked) + "\n\n[[ ## completed ## ]]"
        return json.dumps({name: ANSWER[name] for name in asked})

    return answer


@pytest.mark.parametrize("operation", BOTH)
@pytest.mark.parametrize("adapter", ["chat", "json", "compact"])
def test_both_engines_send_the_same_messages_and_give_the_same_result(operation, adapter):
    """A new pair of engines in the table has no cell here, and fails."""
    sent, results = [], []
    for engine in ("native", "dspy"):
        lm = ScriptedLM(recorded(adapter))
        body = f"text: str\ndocs: list[str]\na = {CELLS[operation].format(SIGNATURE, f', engine={engine!r}')}"
        pipe = dx.Pipeline.of(read_cell("p", body, {}))
        with dx.context(lm=lm, adapter=adapter, cache=None):
            assert pipe.plan()["a"].engine == engine
            results.append(dict(pipe(text="é\n{x}", docs=["one", "two"])))
        sent.append(
            sorted(json.dumps([request.messages, request.options.get("response_format")], default=str) for request in lm.requests)
        )
    assert sent[0] == sent[1]
    assert results[0] == results[1] == {"topics": ["x", "y"], "score": 0.5, "kind": "b", "verdict": "fine"}


def test_the_table_has_a_row_for_every_constructor_and_prints():
    table = dx.routes()
    operations = {row.operation for row in table}
    assert set(OPTIONS) - {"native"} <= operations
    lines = str(table).splitlines()
    assert lines[0].split()[:4] == ["operation", "engine", "types", "tools"]
    assert len(lines) == len(TABLE) + 1
    assert table["chain_of_thought", "native"].reasoning_extraction is False
    assert table["chain_of_thought", "dspy"].reasoning_extraction is True
    assert "<td>react</td>" in table._repr_html_()


def test_native_adapters_of_the_table_are_those_there_are():
    for name in dx.routes()["predict", "native"].adapters:
        assert get_adapter(name).name == name
    assert set(DSPY_ADAPTERS) < set(dx.routes()["predict", "dspy"].adapters)


@pytest.mark.parametrize(
    ("line", "engine", "reason"),
    [
        ('chain_of_thought("text -> a", reasoning_extraction=True)', "dspy", "reasoning_extraction="), ('chain_of_thought("text -> a", advanced=True)', "dspy", "advanced="),
        ('multi_chain_comparison("text -> a")', "dspy", "module of DSPy's kind"), ('multi_chain_comparison("text -> a", aggregation="majority")', "native", "majority counted here"),
        ('template("{{ text }}", call=True)', "native", "whole prompt"), ("reduce(max, over=text)", "python", "for each element"),
        ('parallel(predict("text -> a", engine="dspy"), predict("text -> b"))', "python", "run at once, 1 of them in DSPy"),
        ('best_of_n(predict("text -> a"), N=2, reward_fn=len, threshold=1)', "dspy", "best_of_n"),
        ('retriever("bm25", index=["a"], query=text)', "python", "bm25 is searched"),
    ],
)  # fmt: skip
def test_each_kind_goes_where_the_table_says(line, engine, reason):
    found = planned(f"text: list[str]\na = {line}")["a"]
    assert found.engine == engine
    assert reason in found.reason


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('react("text -> a", tools=[clean], engine="native")', "only DSPy has react"), ('chain_of_thought("text -> a", advanced=True, engine="native")', "is DSPy's"),
        ('multi_chain_comparison("text -> a", engine="native")', "'majority' and 'weighted_vote' are native"), ('template("{{ text }}", call=True, engine="dspy")', "no meaning"),
        ('retriever("bm25", index=["a"], query=text, engine="native")', "no meaning"), ('react("text -> a", tools=[clean], adapter="chta")', "no adapter is called 'chta'"),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_serve_is_refused_with_its_line_and_the_reason(line, words):
    with pytest.raises(PlanError, match=words) as caught:
        planned(f"text: str\na = {line}")
    assert caught.value.line == 2


# Estimates


def test_the_plan_says_order_rounds_calls_and_cost():
    body = (
        'text: str\na = predict("text -> x")\nb = chain_of_thought("text -> y", n=2)\nc = react("x, y -> z", tools=[clean], max_iters=4)\n'
        'd = predict("z -> w", when=z)\ne = clean(w)'
    )
    found = planned(body)
    assert found.levels == [("a", "b"), ("c",), ("d",), ("e",)]
    assert {name: str(calls) for name, calls in found.estimates.items()} == {"a": "1", "b": "2", "c": "2 to 5", "d": "0 to 1"}
    assert (found.calls, found.cost) == ((5, 9), 0.0)
    assert found.summary == "4 rounds; 5 to 9 model calls; no cost"
    assert str(planned('t: list[str]\na = predict("t -> x", over=t)').estimates["a"]) == "0 or more"
    table = planned(body)._repr_html_()
    assert "5 to 9 model calls" in table
    assert "<td" in table


def test_costs_are_known_where_prices_are():
    lm = connect("openai/gpt-4o-mini", api_key="sk-x")
    try:
        session = Session(lm=lm, adapter="chat")
        one = planned('text: str\na = predict("text -> x")', session)
        assert 0.00001 < one.cost < 0.001
        assert planned('text: str\na = chain_of_thought("text -> x", n=4)', session).cost > 4 * one.cost
        assert planned('t: list[str]\na = predict("t -> x", over=t)', session).cost is None
        assert "about $" in one.summary
    finally:
        lm.close()


def test_inner_steps_are_estimated_where_they_stand():
    inner = read_cell("inner", 'text: str\ntidy = predict("text -> a")', {})
    found = planned('text: str\nall = inner(text=text)\nboth = parallel(predict("text -> b"), predict("text -> c"))', inner=inner)
    assert set(found.estimates) == {"all/tidy", "both.b", "both.c"}
    assert found.calls == (3, 3)


def test_a_graph_of_a_thousand_steps_plans_in_a_tenth_of_a_second():
    body = "\n".join(f'step_{at} = predict("q, out_{max(at - 1, 0)} -> out_{at + 1}")' for at in range(1000))
    spec = read_cell("p", f"q: str\nout_0: str\n{body}", {})
    session = Session(lm=ScriptedLM([]), adapter="json")
    taken = []
    for _ in range(3):
        start = time.process_time()
        found = plan(spec, session)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.1
    assert len(found.levels) == 500  # step_0 and step_1 read the input
