from __future__ import annotations

import pytest

from dspex_nb.ambient import Session
from dspex_nb.errors import PlanError, PoolError
from dspex_nb.pipelines import read_cell
from dspex_nb.pools import Pools
from dspex_nb.routing import plan
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
    assert lines[0].split() == ["step", "engine", "pool", "why"]
    assert lines[1].startswith("tidy  python  kernel  python: a Python function")


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
    with pytest.raises(PlanError, match="made of processes"):
        planned('text: str\na = predict("text -> answer", pool="apart")', session)
    with pytest.raises(PoolError, match="no pool 'sde'"):
        planned('text: str\na = native(clean, text=text, pool="sde")', session)
    with pytest.raises(PlanError, match="no pool"):
        planned('text: str\na = native(clean, text=text, pool="side")', Session())


def test_inner_pipelines_have_their_routes_under_the_step():
    inner = read_cell("inner", "text: str\ntidy = native(clean, text=text)", {"clean": clean})
    found = planned("text: str\nall = inner(text=text)", inner=inner)
    assert [route.step for route in found.routes] == ["all", "all/tidy"]
