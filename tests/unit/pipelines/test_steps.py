"""Every kind of step runs: Python's own, the native ones, and those that retrieve."""

import asyncio
import json

import pytest

import dspex_nb as dx
from dspex_nb.errors import DSPexError, PlanError, StepError
from dspex_nb.passages import Passage
from dspex_nb.pipelines import FieldRef, read_cell
from dspex_nb.testing import ScriptedLM

DOCS = [
    "A for loop repeats a block for each item of a list.",
    "A while loop repeats a block as long as a condition holds.",
    "The with statement closes what it opened.",
    "An import statement binds the name of a module.",
]


def double(n):
    return 2 * n


async def later(n):
    await asyncio.sleep(0)
    return n + 1


def upto(n: int):
    yield from range(n)


async def aupto(n: int):
    for one in range(n):
        yield one


# Python functions, reduce, templates


def test_sync_async_and_generator_functions(run):
    names = {"double": double, "later": later, "upto": upto, "aupto": aupto}
    got = run("n: int\na = double\nb = later\nc = upto\nd = aupto\ne = native(lambda c, d: c == d)", names=names, n=3)
    assert dict(got.prediction) == {"a": 6, "b": 4, "e": True}
    assert got.fields["c"] == [0, 1, 2]


def test_a_generators_items_are_a_list_to_the_steps_after_it():
    def words(text: str) -> "Iterator[str]":  # noqa: F821
        yield from text.split()

    words.__annotations__["return"] = __import__("collections.abc").abc.Iterator[str]
    spec = read_cell("p", "text: str\nw = words", {"words": words})
    assert spec["w"].types == {"w": list[str]}
    with pytest.raises(PlanError, match=r"as int.*list\[str\]"):
        read_cell("p", "text: str\nw = words\nn = double(w)", {"words": words, "double": lambda_of_int})


def lambda_of_int(n: int):
    return n


def test_reduce_folds_a_list_field(run):
    def add(so_far, item, step=1):
        return so_far + item * step

    body = "ns: list[int]\nstep: int = 1\ntotal = reduce(add, over=ns, initial=0)\nlongest = reduce(max, over=ns)"
    got = run(body, names={"add": add}, ns=[1, 2, 3], step=10)
    assert dict(got.prediction) == {"total": 60, "longest": 3}


def test_reduce_is_refused_where_it_cannot_fold():
    for body, word in [
        ("ns: list[int]\nt = reduce(double, over=ns)", "takes 1 argument"), ("ns: list[int]\nt = reduce(max)", "needs over="),
        ("ns: list[int]\nt = reduce(5, over=ns)", "expected a function"), ("ns: int\nt = reduce(max, over=ns)", "as list"),
        ("ns: list[int]\nt = reduce(max, over=nss)", "did you mean 'ns'"), ("t = reduce()", "needs a function"),
    ]:  # fmt: skip
        with pytest.raises(DSPexError, match=word) as caught:
            read_cell("p", body, {"double": double})
        assert caught.value.line == body.count("\n") + 1


def test_a_mapped_step_feeds_a_reduce(run):
    body = 'texts: list[str]\ngrade = predict("text -> stars: int", text=texts, over=texts)\ntotal = reduce(lambda a, b: a + b, over=stars)'
    answers = lambda request: json.dumps({"stars": len(request.messages[-1]["content"].split("]]")[1].split()[0])})  # noqa: E731
    assert run(body, answers, texts=["a", "bb", "ccc"]).total == 6


def test_a_template_renders_and_reads_what_steps_keep_to_themselves(run):
    body = (
        'text: str\ngist = chain_of_thought("text -> gist")\n'
        "note = template('{{ gist }} because {{ gist.reasoning }} ({{ text|upper }})')"
    )
    got = run(body, [{"reasoning": "it rains", "gist": "stay"}], text="hm")
    assert got.note == "stay because it rains (HM)"
    spec = read_cell("p", body, {})
    assert spec["note"].bindings["gist.reasoning"] == FieldRef("reasoning", "gist")
    with pytest.raises(PlanError, match=r"(?s)no field 'reasonig'.*did you mean 'reasoning'"):
        read_cell("p", 'text: str\ng = chain_of_thought("text -> gist")\nnote = template("{{ g.reasonig }}")', {})


def test_a_part_of_a_fields_own_value_stays_a_part(run):
    body = "n: int\nmade = make\nnote = template('{{ made.size }} {{ made.items }}')"
    got = run(body, names={"make": lambda n: {"size": n, "items": 5}}, n=2)
    assert got.note.startswith("2 ")


def test_a_template_that_calls_sends_its_text_as_the_prompt(run):
    body = 'text: str\nsummary = template("Sum up: {{ text }}", call=True, system="Be brief.", temperature=0.2)'
    got = run(body, ["It is short."], text="A long text.")
    assert got.summary == "It is short."
    assert got.requests[0].messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Sum up: A long text."},
    ]
    assert got.requests[0].options["temperature"] == 0.2
    assert got.usage.calls == 1
    with pytest.raises(PlanError, match="without call=True"):
        read_cell("p", 'text: str\na = template("{{ text }}", temperature=1)', {})


# Retrieval


CELL = """query: str

parse    = native(parse_query, "query -> search_terms: list[str], filters: dict[str, str]")
rewrite  = chain_of_thought("search_terms -> refined_queries: list[str], strategy: str")
hits     = parallel(
    retriever("bm25", index=topics, k=20),
    retriever("trigram", index=topics, k=20),
    query=refined_queries, filter=filters, merge="rrf",
)
ranked   = rerank(hits, query=query, method="mmr", k=5)
answer   = multi_chain_comparison("query, passages: list[str] -> answer", passages=ranked, chains=3, aggregation="weighted_vote")
report   = respond(answer, passages=ranked, format="markdown", citations=True)
cache(ttl="1h")
"""


def parse_query(query):
    return {"search_terms": query.lower().split(), "filters": {"kind": "loop"}}


def researcher(request):
    if "refined_queries" in request.messages[0]["content"]:
        return json.dumps({"reasoning": "two kinds", "refined_queries": ["for loop", "while loop"], "strategy": "both"})
    number = request.rollout
    said = ("A for loop repeats [1].", "Dunno", "a for loop repeats [1]")[number - 1]
    return json.dumps({"reasoning": f"chain {number}", "answer": said, "confidence": (0.5, 0.8, 0.6)[number - 1]})


def test_the_research_cell_of_the_design_is_read_planned_and_run_as_written():
    topics = [{"text": text, "title": f"t{at}", "kind": "loop" if "loop" in text else "other"} for at, text in enumerate(DOCS)]
    spec = read_cell("research", CELL, {"topics": topics, "parse_query": parse_query})
    assert spec.levels() == [("parse",), ("rewrite",), ("hits",), ("ranked",), ("answer",), ("report",)]
    lm, seen = ScriptedLM(researcher), []
    research = dx.Pipeline.of(spec)
    with dx.context(lm=lm, adapter="json", cache=None):
        plan = research.plan()
        started = research.run(query="how do I loop", on_progress=seen.append)
        result = started.result()
    assert {route.step: route.engine for route in plan.routes} == {
        "parse": "python", "rewrite": "native", "hits": "python", "hits.bm25": "python", "hits.trigram": "python", "ranked": "python",
        "answer": "native", "report": "python",
    }  # fmt: skip
    assert plan.calls == (4, 4)
    assert list(result) == ["report"]
    # Two chains agree and outweigh the surer third; the surer of the two speaks for both.
    assert result.fields["answer"] == "a for loop repeats [1]"
    assert str(result.report).startswith("a for loop repeats [1]")
    assert result.report.citations[0].passage_id == result.fields["ranked"][0].id
    assert {one.text for one in result.fields["hits"]} == set(DOCS[:2])  # the filter holds
    assert all(isinstance(one, Passage) for one in result.fields["ranked"])
    assert '["A ' in lm.requests[-1].messages[-1]["content"]  # the texts, not the passages
    assert {event.step for event in seen if getattr(event, "step", "")} >= {"parse", "hits.bm25", "hits.trigram", "report"}


def test_a_retriever_of_the_users_is_a_step_as_it_is(run):
    index = dx.retriever("bm25", index=DOCS, k=1)
    got = run(
        "query: str\na = index\nb = index(query, k=2)\nc = retriever(index, k=3, query=query)",
        names={"index": index},
        query="loop",
    )
    assert [len(got.a), len(got.b), len(got.c)] == [1, 2, 2]
    made = dx.Pipeline("p", hits=dx.retriever("bm25", index=DOCS, query=dx.field("topic"), k=1))
    assert made(topic="import").hits[0].text == DOCS[3]


def test_several_queries_are_each_searched_and_fused(run):
    names = {"docs": DOCS}
    got = run('qs: list[str]\nhits = retriever("bm25", index=docs, k=4, query=qs)', names=names, qs=["with", "import"])
    assert {one.text for one in got.hits} == set(DOCS[2:])


def test_parallel_takes_lists_and_dicts_and_merges_what_it_gets(run):
    names = {"docs": DOCS, "one": lambda n: [n, 1], "two": lambda n: [n, 2]}
    got = run(
        'n: int\nu = parallel([one, two], n=n, merge="union")\nc = parallel({"a": one, "b": two}, n=n, merge="concat")\n'
        'r = parallel(one, two, n=n, merge="rrf", k=2)\nf = parallel(a=one, b=two, n=n, merge=lambda d: sorted(d))\n'
        'd = parallel({"y": one, "x": two}, n=n)\nlast = template("{{ d.x }}")',
        names=names,
        n=7,
    )  # fmt: skip
    fields = got.fields
    assert (fields["u"], fields["c"], fields["f"]) == ([7, 1, 2], [7, 1, 7, 2], ["a", "b"])
    assert fields["r"][0] == 7
    assert len(fields["r"]) == 2
    assert fields["d"] == {"y": [7, 1], "x": [7, 2]}
    assert fields["last"] == "[7, 2]"
    for body, word in [
        ('n: int\na = parallel({"a b": one})', "name in quotes"), ("n: int\na = parallel({**x})", "name in quotes"),
        ("n: int\na = parallel([one, 5])", "takes steps"), ("n: int\na = parallel([])", "no step in it"),
        ('n: int\na = parallel({"x": one}, x=two)', "two children named 'x'"), ('n: int\na = parallel({"k": one})', "'k' is an option"),
    ]:  # fmt: skip
        with pytest.raises(DSPexError, match=word):
            read_cell("p", body, names)


def test_what_cannot_be_merged_says_so(run):
    with pytest.raises(StepError, match=r"step 'a'.*takes lists"):
        run('n: int\na = parallel(one, merge="union")', names={"one": lambda n: n}, n=1)


def test_passages_are_texts_where_text_is_read(run):
    def shout(words: list[str]) -> list[str]:
        return [word.upper() for word in words]

    def kinds(words) -> list[str]:
        return [type(word).__name__ for word in words]

    names = {"docs": ["one two", "one three"], "shout": shout, "kinds": kinds}
    got = run(
        'q: str\nhits = retriever("bm25", index=docs, query=q)\nloud = shout(hits)\nraw = kinds(hits)\n'
        'each = predict("passage: str -> word", passage=hits, over=hits)',
        [{"word": "a"}, {"word": "b"}],
        names=names,
        q="one",
    )
    assert sorted(got.loud) == ["ONE THREE", "ONE TWO"]
    assert got.raw == ["Passage", "Passage"]
    assert all("Passage(" not in prompt for prompt in got.prompts)


# Comparison of chains


def chains(*said):
    def answer(request):
        return json.dumps({"reasoning": "r", **said[request.rollout - 1]}) if said[request.rollout - 1] else "nothing"

    return answer


def test_majority_and_weighted_vote_choose_and_tell_the_votes(run):
    said = ({"answer": "Yes", "confidence": 0.9}, {"answer": "no.", "confidence": 0.2}, {"answer": "No", "confidence": 0.3})
    body = 'q: str\na = multi_chain_comparison("q -> answer", chains=3, aggregation="{}")\nb = template("{{{{ a.votes }}}} {{{{ a.reasoning }}}}")'
    assert run(body.format("majority"), chains(*said), q="?").fields["answer"] == "no."
    weighted = run(body.format("weighted_vote"), chains(*said), q="?")
    assert weighted.fields["answer"] == "Yes"
    assert weighted.b == "{'yes': 0.9, 'no': 0.5} r"
    assert "confidence" in weighted.requests[0].messages[0]["content"]
    assert {request.rollout for request in weighted.requests} == {1, 2, 3}
    assert all(request.options["temperature"] == 0.7 for request in weighted.requests)
    assert weighted.usage.calls == 3


def test_a_signatures_own_confidence_is_the_vote_and_an_unreadable_chain_has_none(run):
    body = 'q: str\na = multi_chain_comparison("q -> confidence: int, answer", chains=3, aggregation="weighted_vote")'
    got = run(body, chains({"answer": "a", "confidence": 9}, None, {"answer": "b", "confidence": 10}), q="?")
    assert (got.answer, got.confidence) == ("b", 10)
    with pytest.raises(StepError, match="step 'a'"):
        run(body, chains(None, None, None), q="?")


def test_the_same_votes_from_dspys_chains(run):
    said = ({"answer": "Yes"}, {"answer": "no"}, {"answer": "no"})
    body = 'q: str\na = multi_chain_comparison("q -> answer", chains=3, aggregation="majority"{})'
    native, dspys = (run(body.format(more), chains(*said), q="?") for more in ("", ', engine="dspy"'))
    assert native.answer == dspys.answer == "no"
    assert sorted(native.prompts) == sorted(dspys.prompts)


# Conditions, fallbacks, maps, nesting


def test_conditions_fallbacks_and_nested_pipelines(run):
    inner = dx.Pipeline("inner", answer=dx.predict("q -> answer"))
    body = (
        "q: str\nn: int = 1\nfirst = predict('q -> topic', when=n > 5)\nsecond = boom(q, on_error=rescue)\nrescue = plain(q)\n"
        "third = inner(q=second, when=n)\nfourth = predict('topic -> x')"
    )

    def boom(q):
        raise ValueError(q)

    got = run(body, [{"answer": "deep"}], names={"inner": inner, "boom": boom, "plain": str.upper}, q="hi")
    assert dict(got.prediction) == {"answer": "deep", "x": None}
    assert got.fields["second"] == "HI"
    assert "HI" in got.prompts[0]


# Options


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("pool=3", "the name of one"), ("adapter=3", "name of an adapter"), ("adapter=int", "name of an adapter"), ("temperature='hot'", "a number"), ("max_tokens=0", "from 1"), ("n=True", "from 1"),
        ("demos=[3]", "is no example"), ("demos='text'", "a list of examples"), ("seed=0.5", "a whole number"),
    ],
)  # fmt: skip
def test_a_value_that_an_option_cannot_have_is_refused_with_its_caret(option, word):
    with pytest.raises(PlanError, match=word) as caught:
        read_cell("p", f'text: str\nstep = predict("text -> out", {option})', {})
    assert caught.value.text[caught.value.column :].startswith(option.partition("=")[2])
    assert caught.value.hint


@pytest.mark.parametrize("weights", ['{"three": 3}', "[1]", "[0, 0]", "3"])
def test_weights_that_fit_no_child_are_refused_with_the_cell(weights):
    with pytest.raises(PlanError, match="weight") as caught:
        read_cell("p", f'q: str\nh = parallel(one, two, merge="rrf", weights={weights})', {"one": str.split, "two": len})
    assert caught.value.text[caught.value.column :].startswith(weights)


@pytest.mark.parametrize(
    "step",
    [
        "rerank(text, query=text, methods=3)", 'knn("text -> out", k=1, trainset=[1])', 'knn("text -> out", k=1, trainset=[], vectorizer=3)', 'refine("text -> out", N=1, reward_fn=len, threshold="x")',
    ],
)  # fmt: skip
def test_so_are_those_of_other_steps(step):
    with pytest.raises(PlanError, match=r"expected|is no example"):
        read_cell("p", f"text: str\nstep = {step}", {"len": len})


@pytest.mark.parametrize(
    "step",
    [
        "upper(text)", 'predict("text -> out")', 'chain_of_thought("text -> out")', 'react("text -> out", tools=[upper])', 'best_of_n("text -> out", N=2, reward_fn=len, threshold=1)', 'multi_chain_comparison("text -> out", aggregation="majority")', 'template("{{ text }}")', 'template("{{ text }}", call=True)',
        'retriever("bm25", index=docs, query=text)', "rerank(docs, query=text)", "respond(text)", "reduce(max, over=docs)", "parallel(upper, text=text)", "inner(text=text)",
        "echo(text=text)", 'knn("text -> out", k=1, trainset=[{}])', 'rlm("text -> out")',
    ],
)  # fmt: skip
def test_every_kind_takes_the_step_options(step):
    class Echo:
        def __call__(self, text: str) -> str:
            return text

    inner = read_cell("inner", "text: str\nout = upper(text)", {"upper": str.upper})
    names = {"upper": lambda text: text, "docs": ["a", "b"], "inner": inner, "echo": Echo()}
    options = 'cache=False, ttl="1h", retry=1, backoff=0, timeout_s=9, on_error="skip", when=text'
    made = read_cell("p", f"text: str\nstep = {step[:-1]}, {options})", names)["step"]
    assert (made.cache, made.ttl_s, made.retry, made.timeout_s, made.on_error) == (False, 3600.0, 1, 9.0, "skip")
    assert made.when is not None
    assert made.when.holds({"": {"text": "yes"}})
    for option, word in [
        ("retry=-1", "whole number"),
        ('timeout_s="x"', "duration"),
        ("engine='both'", "engines: native, dspy"),
        ("cache=3", "True or False"),
    ]:
        with pytest.raises(PlanError, match=word) as caught:
            read_cell("p", f"text: str\nstep = {step[:-1]}, {option})", names)
        assert caught.value.line == 2


@pytest.mark.parametrize("written", ['{"year": {"$near": 3}}', '{"$or": 3}', '{"year": {"$in": 3}}'])
def test_a_filter_that_means_nothing_is_refused_with_the_cell(written):
    with pytest.raises(PlanError) as caught:
        read_cell("p", f'q: str\nhits = retriever("bm25", index=docs, query=q, filter={written})', {"docs": DOCS})
    assert caught.value.text[caught.value.column :].startswith(written)


def test_a_search_that_fails_is_retried_skipped_or_replaced(run):
    class Flaky:
        name, version = "flaky", "1"

        def __init__(self, failures):
            self.failures = failures

        def search(self, query, k=None, filter=None):  # noqa: A002
            self.failures -= 1
            if self.failures >= 0:
                raise OSError("the index is away")
            return [Passage(f"about {query}")]

        async def asearch(self, query, k=None, filter=None):  # noqa: A002
            return self.search(query)

        def add(self, texts):
            return []

    body = "q: str\nhits = index(q, {})"
    assert run(body.format("retry=1, backoff=0"), names={"index": Flaky(1)}, q="x").hits[0].text == "about x"
    assert run(body.format('on_error="skip"'), names={"index": Flaky(9)}, q="x").hits is None
    spare = 'q: str\nhits = index(q, on_error=retriever("bm25", index=docs, query=q))'
    assert run(spare, names={"index": Flaky(9), "docs": DOCS}, q="import").hits[0].text == DOCS[3]
    with pytest.raises(StepError, match=r"step 'hits' \(cell line 2\).*the index is away"):
        run(body.format("k=1"), names={"index": Flaky(9)}, q="x")
    each = run(
        'qs: list[str]\nhits = retriever("bm25", index=docs, query=qs, over=qs, k=1)', names={"docs": DOCS}, qs=["with", "import"]
    )
    assert [found[0].text for found in each.hits] == [DOCS[2], DOCS[3]]
