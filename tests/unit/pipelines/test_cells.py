"""Each sentence of cells.md about fields, steps and directives, on cells as a user writes them."""

import sys

import pytest

from dspex_nb.errors import DSPexError, PipelineSyntaxError, PlanError
from dspex_nb.passages import Passage
from dspex_nb.pipelines import FieldRef, Step, build, describe, native, parallel, predict, read_cell, template
from dspex_nb.pipelines import field as field_ref
from dspex_nb.signatures import MISSING, Signature

CALLS: list[str] = []


def clean(text: str) -> str:
    return text.strip()


def count(text: str, limit: int = 10) -> int:
    return min(len(text), limit)


def parse_query(query):
    return {}


def explode(*_args, **_kwargs):
    CALLS.append("explode")
    raise ValueError("boom")


def note():
    CALLS.append("note")
    return 0.5


NS = {
    "clean": clean, "count": count, "parse_query": parse_query, "explode": explode, "note": note,
    "Triage": Signature("message, history: list[str] = [] -> desk, urgency: int"), "greeting": "Hello {{ name }}", "temp": 0.3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh():
    CALLS.clear()


def read(body, **more):
    return read_cell("p", body, {**NS, **more})


def refused(body, *words, error=PlanError, line=None, at=None, **more):
    """The body is refused with these words, the caret under `at`, and nothing of it was evaluated."""
    with pytest.raises(error) as caught:
        read(body, **more)
    text = str(caught.value)
    for word in words:
        assert word in text, text
    if line is not None:
        assert caught.value.line == line
    if at is not None:
        assert caught.value.text[caught.value.column :].startswith(at), text
    assert CALLS == []
    return caught.value


# Fields


def test_a_step_with_a_signature_writes_its_outputs_and_another_one_field_named_after_it():
    spec = read(
        'query: str\nparse = native(parse_query, "query -> terms: list[str], filters: dict[str, str]")\nsize = count(text=query)\nhi = template("{{ query }}")'
    )
    assert [step.writes for step in spec.steps] == [("terms", "filters"), ("size",), ("hi",)]
    assert spec["size"].types == {"size": int}
    assert spec["hi"].types == {"hi": str}


def test_a_step_reads_what_its_signature_names_and_an_argument_binds_another_field():
    spec = read(
        'query: str\na = predict("query -> found: list[str]")\nb = predict("query, passages: list[str] -> answer", passages=found)'
    )
    assert spec["b"].bindings == {"query": FieldRef("query", ""), "passages": FieldRef("found", "a")}
    assert spec["b"].reads == ("query", "found")
    assert spec.edges() == [("a", "b")]


def test_a_bare_name_is_a_field_if_one_has_that_name_else_the_users_variable():
    spec = read(
        'text: str\na = predict("text -> topic")\nb = count(text, limit=topics)\nc = clean(topic)', topics=3, topic="shadowed"
    )
    assert spec["b"].bindings == {"text": FieldRef("text", ""), "limit": 3}
    assert spec["c"].bindings == {"text": FieldRef("topic", "a")}


def test_a_step_that_reads_the_field_it_writes_makes_a_new_version_for_the_lines_below():
    spec = read(
        'text: str\nbefore = predict("text -> first")\nfix = native(clean, "raw -> text", raw=text)\n'
        'again = native(clean, "raw -> text", raw=text)\nafter = predict("text -> second")'
    )
    versions = {step.name: next(iter(step.bindings.values())).step for step in spec.steps}
    assert versions == {"before": "", "fix": "", "again": "fix", "after": "again"}
    assert spec.fields["text"] == FieldRef("text", "again")


def test_a_version_without_a_first_writer_comes_from_an_inferred_input():
    spec = read("text = clean")
    assert [one.name for one in spec.inputs] == ["text"]
    spec = read('a = predict("raw -> text", raw=text)\nb = predict("raw -> text", raw=text)')
    assert [one.name for one in spec.inputs] == ["text"]
    assert spec["b"].bindings["raw"] == FieldRef("text", "a")


def test_a_version_in_one_signature_is_refused_with_how_to_write_it():
    refused(
        'q: str\na = predict("q -> draft")\nb = predict("draft -> draft")', 'predict("text -> draft", text=draft)', line=3,
        error=PipelineSyntaxError,
    )  # fmt: skip
    read('q: str\na = predict("q -> draft")\nb = predict("text -> draft", text=draft)')


def test_a_pipeline_used_twice_is_refused_with_how_to_read_both():
    inner = read('q: str\na = predict("q -> z")')
    refused("q: str\na = inner(q=q)\nb = inner(q=q)", "both.one", line=3, inner=inner)
    spec = read('q: str\nboth = parallel(one=inner(q=q), two=inner(q=q))\nc = predict("x -> y", x=both.one)', inner=inner)
    assert spec["c"].bindings["x"] == FieldRef("both", "both", ("one",))


def test_two_writers_are_refused():
    refused(
        'a = predict("q -> desk")\nb = predict("q -> desk")', "'b' writes 'desk'", "'a' (line 1)", "one writer", line=2, at="desk"
    )
    refused('q: str\ndesk: str\na = predict("q -> desk")', "it is an input (line 2)", line=3)


def test_fields_read_and_never_written_are_the_inputs_when_none_is_declared():
    spec = read("a = predict(Triage)\nb = count(text=subject)")
    assert [(one.name, one.required) for one in spec.inputs] == [("message", True), ("subject", True), ("history", False)] or [
        (one.name, one.required) for one in spec.inputs
    ] == [("message", True), ("history", False), ("limit", False), ("subject", True)]
    assert spec["a"].bindings["history"] == FieldRef("history", "")


def test_readers_that_disagree_on_a_default_keep_their_own():
    def one(text, k=1):
        return k

    def two(text, k=2):
        return k

    spec = read("a = one\nb = two", one=one, two=two)
    assert [item.name for item in spec.inputs] == ["text"]
    assert "k" not in spec["a"].bindings


def test_a_near_miss_of_a_written_name_is_refused():
    refused(
        'a = predict("q -> search_terms: list[str]")\nb = predict("search_term -> x")',
        "did you mean 'search_terms'?",
        "declare it",
        line=2,
        at="search_term ",
    )
    spec = read('a = predict("q -> item_1")\nb = predict("item_2 -> x")')
    assert [one.name for one in spec.inputs] == ["q", "item_2"]


def test_an_unknown_field_is_refused_with_the_caret_under_it():
    refused('message: str\na = predict("mesage -> desk")', "'mesage'", "did you mean 'message'?", line=2, at="mesage")
    refused('message: str\na = predict("message, docs -> desk")', "docs", "docs=...", docs=["x"], line=2)
    refused("message: str\na = count(text=txt)", "'txt'", line=2, at="txt")


def test_every_output_is_reachable_as_step_dot_field():
    spec = read('q: str\na = predict("q -> x, y")\nb = clean(a.y)')
    assert spec["b"].bindings == {"text": FieldRef("y", "a")}
    refused('q: str\na = predict("q -> strategy")\nb = clean(a.stratgy)', "did you mean 'strategy'", "'a' has no field", line=3)


def test_reasoning_is_reachable_only_through_its_step():
    spec = read('q: str\na = chain_of_thought("q -> x")\nb = clean(a.reasoning)')
    assert spec["b"].bindings["text"] == FieldRef("reasoning", "a")
    assert "reasoning" not in spec.fields
    refused('q: str\na = chain_of_thought("q -> x")\nb = predict("reasoning -> z")', "'reasoning'", line=3)


def test_order_follows_data_not_lines():
    spec = read('q: str\nlast = predict("middle -> end")\nsecond = predict("first -> middle")\nfirst = predict("q -> first")')
    assert [step.name for step in spec.order()] == ["first", "second", "last"]


def test_the_result_is_the_fields_of_the_steps_nobody_reads_from():
    spec = read('q: str\na = predict("q -> x, spare")\nb = predict("x -> y")\nc = predict("q -> z")')
    assert spec.outputs == ("b", "c")
    assert spec.result == {"y": FieldRef("y", "b"), "z": FieldRef("z", "c")}


def test_a_cycle_is_refused_with_its_path():
    refused('q: str\na = predict("y -> x")\nb = predict("x -> y")', "wait for each other", "→", line=2)
    refused('q: str\na = predict("q, z -> x", z=a.x)', "a → a")


def test_a_clear_type_mismatch_is_refused():
    refused('q: str\na = predict("q -> n: int")\nb = predict("n: list[str] -> x")', "list[str]", "int", line=3, at="n:")
    refused("n: int\nb = clean(n)", "as str", "the input is 'n' as int")
    refused('q: str\na = predict("q -> n: float")\nb = predict("n: int -> x")', "as int", "as float", line=3)
    refused(
        "q: str\na = predict(\"q -> n: Literal['a', 'b', 'c']\")\nb = predict(\"n: Literal['a', 'b'] -> x\")", "Literal", line=3
    )
    refused('q: str\nh = retriever("bm25", index=[], query=q)\nb = predict("h: str -> x")', "as str", "list[Passage]", line=3)
    read(
        "q: str\na = predict(\"q -> n: Literal['a']\")\nb = predict(\"n: Literal['a', 'b'] -> x\")\nc = predict(\"n: str -> z\")"
    )
    refused('q: str\na = predict("q -> n: dict[str, str]")\nb = predict("n: dict[str, int] -> x")', "dict[str, int]", line=3)
    read('q: str\na = predict("q -> n: dict[str, int]")\nb = predict("n: dict[str, float] -> x")\nc = predict("n: dict -> z")')
    read('q: str\na = predict("q -> n: Optional[int]")\nb = predict("n: float -> x")')
    read('q: str\na = predict("q -> n: int")\nb = predict("n: float -> x")')
    read('q: str\na = predict("q -> n: int")\nb = predict("n -> x")')

    class Passage:
        text = ""

    read('q: list[Passage]\nb = predict("q: list[str] -> x")', Passage=Passage)


# Names and statements


def test_a_step_name_used_twice_is_refused():
    refused('q: str\na = predict("q -> x")\na = predict("q -> y")', "'a' is used twice", "line 2", line=3)


def test_constructor_names_win_in_call_position_and_a_steps_name_hides_none():
    spec = read('q: str\npredict = predict("q -> x")\nb = predict("x -> y")', predict=explode)
    assert [step.kind for step in spec.steps] == ["predict", "predict"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("import os", "import"), ("def f(): pass", "def"), ("for i in x: pass", "for"), ("x += 1", "operator"), ("if x: pass", "if"), ("del x", "del"),
        ("pass", "pass"), ("explode()", "no directive"), ("explode", "on its own"), ('"text"', "on its own"), ("a, b = explode()", "one plain name"),
        ("a = b = explode()", "one plain name"), ("a.b = explode()", "one plain name"), ("a.b: int", "plain name"), ("a = 5", "expected a constructor"),
        ("a = [explode()]", "expected a constructor"), ("a = await explode()", "expected"), ("assert explode()", "assert"), ("a = greeting", "is a str"),
        ("a = Triage", "predict(Triage)"), ("x: str = predict('q -> a')", "cannot be a step"), ("a = (lambda x=explode(): x)", "plain value"),
        ("class A: pass", "class"), ("with explode(): pass", "with"), ("a = predict(", "not Python"), ("%time x", "not Python"), ("a = predict(**explode())", "**"),
        ("a = predict('q -> x', temperature=1, temperature=2)", "twice"), ("predict('q -> x')", "give the step a name"), ("catche(ttl='1h')", "did you mean 'cache'"),
    ],
)  # fmt: skip
def test_what_is_no_input_step_or_directive_is_refused(line, word):
    refused(f"q: str\n{line}", word, error=PipelineSyntaxError, line=2)


def test_a_cell_without_steps_is_refused():
    refused("q: str", "no step", error=PipelineSyntaxError)
    refused("", "no step", error=PipelineSyntaxError)


def test_the_caret_counts_characters_not_bytes():
    error = refused('ü: str\nblätter = predict("ü -> ä", temprature=1)', "temprature", "did you mean 'temperature'", line=2)
    assert error.text[error.column :].startswith("temprature=1") or error.text[error.column :].startswith("1")


def test_unknown_names_get_did_you_mean():
    refused('q: str\na = predct("q -> x")', "did you mean 'predict'", line=2, at="predct")
    refused("q: str\na = predict(Triag)", "did you mean 'Triage'", error=PipelineSyntaxError, line=2, at="Triag")
    refused(
        "q: strr\na = predict('q -> x')",
        "unknown type 'strr'",
        "did you mean 'str'",
        error=PipelineSyntaxError,
        line=1,
        at="strr",
    )
    refused('q: str\na = predict("q -> x: lisst[str]")', "lisst", error=PipelineSyntaxError, line=2, at="lisst")


def test_a_step_where_a_field_is_meant_is_explained():
    refused('q: str\na = predict("q -> x, y")\nb = clean(a)', "'a' is a step, not a field", "a.x", line=3)


def test_a_field_inside_an_expression_is_refused():
    refused("q: list[str]\na = count(text=q[0])", "given whole", line=2)


def test_an_option_cannot_be_a_field():
    refused('q: str\nk: int\na = predict("q -> x", max_tokens=k)', "an option, fixed before the run", line=3)


# Inputs


def test_inputs_keep_type_default_and_line():
    spec = read('q: str\nk: int = 2 + 3\nnames: list[str] = []\na = predict("q -> x")')
    assert [(one.name, one.type, one.default, one.line) for one in spec.inputs] == [
        ("q", str, MISSING, 1),
        ("k", int, 5, 2),
        ("names", list[str], [], 3),
    ]
    refused("q: str\nq: int\na = predict('q -> x')", "declared twice", line=2)
    refused("q: str = nowhere\na = predict('q -> x')", "'nowhere' is not defined", line=1)


def test_nothing_is_evaluated_before_the_whole_cell_is_checked():
    refused('q: str\na = predict("q -> x", temperature=note())\nb = predict("nope -> y")', "nope")
    spec = read('q: str\na = predict("q -> x", temperature=note())')
    assert spec["a"].options == {"temperature": 0.5}
    assert CALLS == ["note"]


def test_an_expression_that_raises_is_reported_at_its_place():
    with pytest.raises(PlanError, match="raised ValueError: boom") as caught:
        read('q: str\na = predict("q -> x", temperature=explode(1))')
    assert caught.value.line == 2
    assert caught.value.text[caught.value.column :].startswith("explode(1)")


# Steps


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("predict(Triage)", "predict"), ("chain_of_thought(Triage)", "chain_of_thought"), ("react(Triage, tools=[clean])", "react"),
        ("react_v2(Triage, tools=[clean])", "react_v2"), ("program_of_thought(Triage, max_iters=2)", "program_of_thought"),
        ("code_act(Triage, tools=[clean])", "code_act"), ("rlm(Triage)", "rlm"), ("best_of_n(Triage, N=3, reward_fn=count, threshold=1.0)", "best_of_n"),
        ("refine(predict(Triage), N=3, reward_fn=count, threshold=1.0)", "refine"), ("multi_chain_comparison(Triage, chains=3)", "multi_chain_comparison"),
        ("knn(Triage, k=3, trainset=[])", "knn"),
    ],
)  # fmt: skip
def test_constructors_with_a_signature_keep_kind_signature_and_options(call, kind):
    step = read(f"a = {call}")["a"]
    assert (step.kind, step.writes, list(step.signature.inputs)) == (kind, ("desk", "urgency"), ["message", "history"])
    assert set(step.options) == {word.partition("=")[0].strip() for word in call.split("(", 1)[1].split(",") if "=" in word}


def test_needed_options_and_impossible_values_are_refused():
    refused("a = react(Triage)", "needs tools=")
    refused("a = multi_chain_comparison(Triage, aggregation='majorty')", "did you mean 'majority'")
    refused('a = predict(Triage, engine="natve")', "did you mean 'native'", line=1)
    refused('a = predict(Triage, timeout_s="soon")', "expected a duration")
    refused("a = predict(Triage, retry=-1)", "whole number")


def test_steps_of_retrieval_read_and_write_passages():
    spec = read(
        'q: str\nhits = retriever("bm25", index=docs, k=3, query=q)\nranked = rerank(hits, query=q, method="mmr", k=2)\n'
        'answer = predict("q, passages: list[str] -> answer", passages=ranked)\nreport = respond(answer, passages=ranked)',
        docs=["one", "two"],
    )
    assert [step.kind for step in spec.steps] == ["retriever", "rerank", "predict", "respond"]
    assert spec["hits"].bindings == {"query": FieldRef("q", "")}
    assert (spec["hits"].callable.count(), spec["hits"].options) == (2, {"k": 3})
    assert spec["ranked"].bindings == {"passages": FieldRef("hits", "hits"), "query": FieldRef("q", "")}
    assert spec["answer"].texts == ("q", "passages")
    assert (spec["hits"].types, spec["ranked"].types) == ({"hits": list[Passage]}, {"ranked": list[Passage]})


def test_what_retrieval_cannot_do_is_refused_with_its_place():
    refused('q: str\na = retriever("bm26", query=q)', "no retriever 'bm26'", "did you mean 'bm25'", line=2, at='"bm26"')
    refused('q: str\na = retriever("vertex", index=explode(), query=q)', "needs the package", "pip install", line=2)
    refused("q: str\na = retriever(5, query=q)", "a retriever's kind", error=PipelineSyntaxError, line=2, at="5")
    refused('q: str\na = retriever("bm25", indx=[], query=q)', "no option 'indx'", "did you mean 'index'", line=2)
    refused('q: str\na = rerank(q, query=q, method="mmmr")', "no such method", "did you mean 'mmr'", line=2, at='"mmmr"')
    refused('q: str\na = respond(q, format="markdwn")', "no such format", "did you mean 'markdown'", line=2)
    refused("q: str\na = rerank(q, query=q, kk=3)", "no option 'kk'", line=2)
    refused('q: str\nd: list[str]\na = retriever("bm25", index=d, query=q)', "'d' is a field", line=3)


def test_a_bare_function_takes_its_annotations_as_signature():
    spec = read("text: str\na = count\nb = count(text, limit=3)\nc = lambda text: text.upper()")
    assert spec["a"].bindings == {"text": FieldRef("text", "")}
    assert spec["b"].bindings == {"text": FieldRef("text", ""), "limit": 3}
    assert spec["c"].callable("a") == "A"
    refused("text: str\na = count(text, lmit=3)", "did you mean 'limit'")
    refused("text: str\na = count(text, 1, 2)", "takes 2 arguments", error=PipelineSyntaxError)


def test_builtins_are_called_by_position():
    step = read("text: str\na = len(text)")["a"]
    assert step.positional == ("obj",)
    assert step.bindings == {"obj": FieldRef("text", "")}


def test_native_checks_the_signature_against_the_function():
    refused('text: str\na = native(count, "txt -> n: int")', "did you mean 'text'")
    refused('limit: int\na = native(count, "limit: int -> n: int")', "needs 'text'")
    assert read('text: str\na = native(count, "text -> n: int", limit=4)')["a"].bindings["limit"] == 4
    step = read('q: str\na = native(lambda words: [words], "q -> a: list[str]")')["a"]
    assert step.positional == ("q",)


def test_a_template_reads_its_variables():
    step = read("who: str\na = template(greeting, name=who)")["a"]
    assert (step.kind, step.bindings, step.callable.text) == ("template", {"name": FieldRef("who", "")}, "Hello {{ name }}")
    refused('a = template("{{ oops")', "template:", error=PipelineSyntaxError, line=1)


def test_a_pipeline_is_a_step_that_writes_its_result():
    class Held:
        spec = read('message: str\na = predict("message -> desk")')

    step = read("text: str\nsupport = inner(message=text)", inner=Held())["support"]
    assert (step.kind, step.writes, step.callable) == ("pipeline", ("desk",), Held.spec)
    assert step.bindings == {"message": FieldRef("text", "")}


def test_parallel_writes_one_dict_named_after_the_step():
    spec = read('text: str\nboth = parallel(clean, predict("text -> tone"), clean, size=count)\nend = clean(both.tone)')
    step = spec["both"]
    assert (step.writes, step.types) == (("both",), {"both": dict})
    assert [child.name for child in step.children] == ["both.clean", "both.tone", "both.clean_2", "both.size"]
    assert spec["end"].bindings["text"] == FieldRef("both", "both", ("tone",))
    assert spec["end"].bindings["text"].read({"both": {"both": {"tone": "calm"}}}) == "calm"


def test_a_lambda_is_a_child_of_parallel_as_it_is_a_step():
    step = read("text: str\nboth = parallel(lambda text: text[:1], end=lambda text: text[-1:], merge=lambda parts: len(parts))")[
        "both"
    ]
    assert [child.name for child in step.children] == ["both.function", "both.end"]
    assert step.children[1].callable("abc") == "c"
    assert step.options["merge"]({}) == 0


def test_parallel_hands_shared_bindings_to_its_children():
    step = read('message: str\nboth = parallel(clean, size=count, text=message, timeout_s="1m")')["both"]
    assert [child.bindings for child in step.children] == [{"text": FieldRef("message", "")}] * 2
    assert step.timeout_s == 60
    refused("message: str\nboth = parallel(clean, txt=message)", "no option 'txt'", "did you mean 'text'")
    refused('message: str\nboth = parallel(predict("message -> a"), merge="rrff")', "no such merge", "did you mean 'rrf'")
    refused('message: str\nboth = parallel(predict("message -> a"), k=3)', "without merge=", at="3")
    refused("message: str\nboth = parallel()", "no step", error=PipelineSyntaxError)


def test_dspy_modules_are_found_without_importing_dspy():
    import dspy

    class Two(dspy.Module):
        def __init__(self, k=1):
            super().__init__()
            self.k = k

        def forward(self, question: str) -> dspy.Prediction:
            return dspy.Prediction(answer=question)

    spec = read(
        'question: str\na = Two(k=3)\nb = made\nc = module(Two, "question -> answer")\nd = dspy.ChainOfThought("question -> why")\ne = cot\nf = clean(e.reasoning)',
        Two=Two, made=Two(), dspy=dspy, cot=dspy.ChainOfThought("question -> verdict: bool"),
    )  # fmt: skip
    assert {step.kind for step in spec.steps[:-1]} == {"module"}
    assert spec["a"].callable.k == 3
    assert [step.writes for step in spec.steps] == [("a",), ("b",), ("answer",), ("why",), ("verdict",), ("f",)]
    assert spec["d"].callable is dspy.ChainOfThought
    assert spec["e"].types == {"verdict": bool}


# Options of every step


def test_every_step_option_is_kept():
    step = read(
        'texts: list[str]\nurgent: bool\na = predict("text -> x", text=texts, engine="dspy", adapter="json", pool="gpu", cache=True, ttl="1h30m",'
        ' retry=2, timeout_s=1.5, on_error="skip", when=urgent, over=texts)'
    )["a"]
    assert (step.engine, step.adapter, step.pool, step.cache, step.ttl_s, step.retry, step.timeout_s, step.on_error) == (
        "dspy", "json", "gpu", True, 5400.0, 2, 1.5, "skip",
    )  # fmt: skip
    assert step.over == ("text",)
    assert step.types == {"x": list[str]} or step.types["x"]
    assert step.when.holds({"": {"urgent": True}}) is True


def test_a_default_of_another_type_than_its_input_is_refused():
    refused('q: str = 3\na = predict("q -> a")', "the input 'q' is str, but its default is 3", line=1, at="3")
    refused("q: Literal['x', 'y'] = 'z'\na = predict(\"q -> a\")", "but its default is 'z'", line=1)
    refused('q: list[str] = "a"\na = predict("q -> a")', "is list[str], but its default is 'a'", line=1)
    for fine in ("q: float = 1", "q: str | None = None", "q: str = None", "q: list[str] = ()", "q: Any = 3", "q: int = True"):
        assert read(f'{fine}\na = predict("q -> a")').inputs[0].required is False


def test_directives_are_the_default_for_all_steps():
    spec = read(
        'q: str\na = predict("q -> x", retry=0)\nb = clean(q)\nboth = parallel(clean, text=q)\ncache(ttl="1h")\nretry(2)\non_error("skip")'
    )
    assert [(step.ttl_s, step.retry, step.on_error) for step in spec.steps] == [
        (3600.0, 0, "skip"),
        (3600.0, 2, "skip"),
        (3600.0, 0, "skip"),
    ]
    assert spec["both.clean"].retry == 2
    assert spec["b"].cache is None
    assert not spec["b"].pure
    refused('q: str\na = clean(q)\non_error("skp")', "did you mean 'skip'", line=3)
    refused("q: str\na = clean(q)\ncache(tll='1h')", "did you mean 'ttl'", line=3)
    refused("q: str\na = clean(q)\nretry()", "needs a value", error=PipelineSyntaxError, line=3)


def test_when_is_a_predicate_over_fields():
    body = 'm: str\na = predict("m -> urgency: int")\nb = predict("m -> reply", when={})'
    for written in ("urgency > limit", "lambda urgency: urgency > limit", "check"):
        step = read(body.format(written), limit=3, check=lambda urgency: urgency > 3)["b"]
        assert step.when.bindings == {"urgency": FieldRef("urgency", "a")}
        assert step.when.holds({"a": {"urgency": 4}}) is True
        assert step.when.holds({"a": {"urgency": 3}}) is False
    assert read(body.format("urgency > 3")).edges() == [("a", "b")]
    refused(body.format("lambda urgncy: urgncy > 3"), "did you mean 'urgency'", line=3)
    refused(body.format("urgncy > 3"), "did you mean 'urgency'", line=3)


def test_over_maps_and_finds_the_one_free_parameter():
    spec = read('docs: list[str]\na = predict("doc -> label: int", over=docs)\nb = predict("label: list[int] -> total: int")')
    assert spec["a"].over == ("doc",)
    assert spec["a"].types == {"label": list[int]}
    refused('doc: int\na = predict("doc: int -> x", over=doc)', "not a list")
    refused('docs: list[str]\nq: str\na = predict("q, r -> x", r=q, over=docs)', "does not read it")
    refused('docs: list[str]\nq: str\na = parallel(predict("q -> x"), over=docs)', "does not read it")
    refused('docs: list[str]\na = parallel(b=predict("doc -> x", over=docs), over=docs)', "a list of its own")
    refused(
        'docs: list[str]\na = parallel(b=predict("doc -> x"), over=docs)\nc = predict("x -> y", x=a.b)',
        "is a list",
        "take it apart",
    )


def test_a_fallback_step_stands_in_and_leaves_the_graph():
    spec = read('m: str\nspare = predict("m -> desk")\nmain = chain_of_thought("m -> desk", on_error=spare)')
    assert [step.name for step in spec.steps] == ["main"]
    assert isinstance(spec["main"].on_error, Step)
    assert spec["main.on_error"].writes == ("desk",)

    def guess(m):
        return "billing"

    assert read('m: str\nmain = predict("m -> desk", on_error=guess)', guess=guess)["main"].on_error.writes == ("desk",)
    assert read('m: str\nmain = predict("m -> desk", on_error=predict("m -> desk"))')["main"].on_error.kind == "predict"
    assert read('m: str\nmain = predict("m -> desk", on_error=lambda m: m)')["main"].on_error.kind == "function"
    refused('m: str\nmain = predict("m -> desk", on_error=predict("m -> other"))', "does not write 'desk'")
    refused('m: str\nmain = predict("m -> desk", on_error="skp")', "did you mean 'skip'")


# Plain Python


def test_build_makes_the_same_pipeline_as_the_cell():
    cell = read(
        'message: str\ntidy = clean(message)\ntriage = predict("message -> desk", message=tidy, temperature=0)\nboth = parallel(size=count, text=tidy)'
    )
    built = build(
        "p",
        {
            "tidy": native(clean, text=field_ref("message")),
            "triage": predict("message -> desk", message=field_ref("tidy"), temperature=0),
            "both": parallel(size=native(count), text=field_ref("tidy")),
        },
        inputs={"message": str},
    )
    assert _plain(describe(built)) == _plain(describe(cell))
    assert [step.bindings for step in built.steps] == [step.bindings for step in cell.steps]


def _plain(described):
    return {
        **described,
        "steps": [{**step, "line": 0} for step in described["steps"]],
        "inputs": [{**one, "line": 0} for one in described["inputs"]],
    }


def test_strings_are_literals_in_plain_python_and_functions_are_steps():
    spec = build("p", {"a": clean, "b": native(clean, text="a")})
    assert spec["b"].bindings == {"text": "a"}
    with pytest.raises(PlanError, match="expected a constructor call"):
        build("p", {"a": 5})
    with pytest.raises(PlanError, match="no option 'temprature'"):
        predict("q -> a", temprature=1)
    with pytest.raises(DSPexError, match="no step"):
        build("p", {})
    assert template("Hi {{ x }}").parameters.names == ("x",)


def test_describe_is_json_with_children_after_their_parents():
    import json

    described = describe(
        read('text: str\nboth = parallel(clean, tone=predict("text -> tone"))\nend = predict("both: dict -> reply")')
    )
    assert json.loads(json.dumps(described)) == described
    assert [(step["name"], step["parent"]) for step in described["steps"]] == [
        ("both", None),
        ("end", None),
        ("both.clean", "both"),
        ("both.tone", "both"),
    ]
    assert described["edges"] == [["both", "end"]]
    assert described["outputs"] == ["reply"]
    assert described["steps"][1]["summary"] == "both -> reply"


def test_reading_a_cell_imports_no_heavy_library():
    import subprocess

    code = "import sys; import dspex_nb.pipelines as p; p.read_cell('x', 'q: str\\na = predict(\"q -> b\")', {}); print({'dspy','litellm','jinja2','pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
