"""A saved pipeline: it comes back the same, and a file of anyone's runs nothing and imports nothing."""

from __future__ import annotations

import enum
import json
import linecache
import pathlib
import sys

import dspy
import pytest
from pydantic import BaseModel

import dspex_nb as dx
from dspex_nb.bridge import module_recipe
from dspex_nb.errors import DataError, DSPexError, PipelineError
from dspex_nb.pipelines import PipelineSpec, Step, read_cell, to_python
from dspex_nb.pipelines.restoring import from_saved, read_saved
from dspex_nb.pipelines.saving import digest, to_saved, write_saved
from dspex_nb.retrieval import postgres
from dspex_nb.signatures import parse_cell, read_type


class Desk(enum.Enum):
    BILLING = "billing"
    TECH = "tech"


class Item(BaseModel):
    name: str
    count: int = 1


def clean(text: str) -> str:
    return text.strip()


def look_up(word: str) -> str:
    """Look a word up."""
    return word.upper()


def reward(arguments: dict, prediction: object) -> float:
    return 1.0


def vectorize(texts: list[str]) -> list[list[float]]:
    return [[float(len(text))] for text in texts]


class Shout(dspy.Module):
    def __init__(self, mark: str = "!"):
        super().__init__()
        self.mark, self.ask = mark, dspy.Predict("text -> loud")

    def forward(self, text: str):
        return self.ask(text=text + self.mark)


TRIAGE = parse_cell(
    "Triage",
    "Route it.\nmessage: str  # what they wrote\nk: int = 3\n->\ndesk: Desk\nitems: list[Item]\nurgency: int  # 1 to 5",
    {"Desk": Desk, "Item": Item},
)
INNER = read_cell("inner", 'message: str\na = predict("message -> desk")', {})
TUNED = dx.ChainOfThought("message -> desk", temperature=0.5)
TUNED.demos = [{"message": "hi", "desk": "sales"}]
TRAIN = [dx.Example({"q": "a", "x": "b"}, ["q"]), dspy.Example(q="c", x="d").with_inputs("q")]
PREDICT = dspy.Predict("q -> x", temperature=0.1)
PREDICT.demos = [dspy.Example(q="1", x="2")]
NAMES = {
    "clean": clean, "look_up": look_up, "reward": reward, "vectorize": vectorize, "Shout": Shout, "Triage": TRIAGE, "inner": INNER,
    "tuned": TUNED, "train": TRAIN, "dspy": dspy, "Desk": Desk, "made": PREDICT, "shout": Shout(), "ready": Shout(),
    "texts": ["the moon", "the sun"],
}  # fmt: skip

KINDS = {
    "native": "text: str\na = native(clean)\nb = clean(text=a)\nc = native(clean, 'text -> short: str', text=b, retry=2, timeout_s=3)",
    "lambda": "text: str\na = native(lambda text: text[:3])\nb = native(lambda x, k=2: x * k, 'x -> twice', x=a)",
    "builtin": "text: str\na = native(str.upper, 'text -> words')\nb = native(len, 'words -> n: int')",
    "predict": "message: str\ndesk = predict(Triage, k=5, temperature=0.2, engine='dspy', adapter='json', cache=False, ttl='1h')",
    "chain_of_thought": "q: str\na = chain_of_thought('q -> x')\nb = predict('hint, x -> y', hint=a.reasoning)",
    "demos": "q: str\na = predict('q -> x', demos=[{'q': '1', 'x': '2'}])",
    "react": "q: str\na = react('q -> x', tools=[look_up], max_iters=3)",
    "react_v2": "q: str\na = react_v2('q -> x', tools=[look_up], max_iters=3)",
    "program_of_thought": "q: str\na = program_of_thought('q -> x', max_iters=2)",
    "code_act": "q: str\na = code_act('q -> x', tools=[look_up], max_iters=2)",
    "rlm": "q: str\na = rlm('q -> x', max_iters=2)",
    "best_of_n": "q: str\na = best_of_n('q -> x', N=2, reward_fn=reward, threshold=1.0)",
    "refine": "q: str\na = refine(predict('q -> x', temperature=0.9), N=2, reward_fn=reward, threshold=1.0)",
    "multi_chain_comparison": "q: str\na = multi_chain_comparison('q -> x', chains=3, aggregation='majority')",
    "knn": "q: str\na = knn('q -> x', k=1, trainset=train, vectorizer=vectorize)",
    "reduce": "counts: list[int]\na = reduce(lambda total, n: total + n, over=counts, initial=0)",
    "template": "name: str\na = chain_of_thought('name -> x')\nb = template('Dear {{ name }}: {{ a.reasoning }}')",
    "template call": "name: str\na = template('Greet {{ name }}', call=True, temperature=0.3)",
    "parallel": "text: str\na = parallel(clean, tone=predict('text -> tone'))\nb = template('{{ t }}', t=a.tone)",
    "merge": "q: str\na = parallel(retriever('bm25', index=texts), retriever('trigram', index=texts), query=q, merge='rrf', k=2)",
    "module class": "question: str\na = dspy.ChainOfThought('question -> answer')",
    "module written": "text: str\na = Shout(mark='?')",
    "module made": "q: str\na = made",
    "module without arguments": "text: str\na = shout",
    "program": "message: str\na = tuned(message=message, temperature=0.7)",
    "pipeline": "message: str\nfix = predict('raw -> message', raw=message)\na = inner\nb = inner(message=desk, on_error='skip')",
    "versions": "text: str\nx = native(clean, 'raw -> text', raw=text)\ny = native(clean, 'raw -> text', raw=text)\nz = predict('text -> out')",
    "when and over": (
        "words: list[str]\nk: int = 2\na = predict('word -> label', over=words, when=k > 1, on_error=predict('word -> label'))\n"
        "b = native(len, 'label -> n: int', when=lambda k: k > 0, on_error='skip')\nc = predict('label -> z', when=k, backoff=2, retry=1)"
    ),
    "retrieval": (
        "q: str\nhits = retriever('bm25', index=texts, k=2, query=q)\nranked = rerank(hits, query=q, method='mmr', k=1)\n"
        "ans = predict('q, passages: list[str] -> x', passages=ranked)\nrep = respond(x, passages=ranked, format='markdown')"
    ),
    "directives": "q: str\na = predict('q -> x')\nb = native(len, 'x -> n: int')\ncache(ttl='1h')\nretry(2)\non_error('skip')",
}  # fmt: skip


def essence(value):  # noqa: PLR0911 - one return a kind of value
    """What a pipeline does, without where it was written and what object it is."""
    if isinstance(value, PipelineSpec):
        inputs = [(one.name, one.type, one.default) for one in value.inputs]
        return [value.name, inputs, value.edges(), value.result, [essence(step) for step in value.steps]]
    if isinstance(value, Step):
        skipped = {"line", "column", "text", "sources", "made_with", "when", "callable"}
        parts = {name: essence(getattr(value, name)) for name in Step.__dataclass_fields__ if name not in skipped}
        when = None if value.when is None else (dict(value.when.bindings), value.when.text.partition(":")[2].strip() != "no")
        parts["reads"] = sorted(parts["reads"])  # arguments that are said come before those that are not
        return {**parts, "when": when, "runs": runs(value.callable)}
    if isinstance(value, dspy.Example):
        return ["example", value.toDict()]
    if isinstance(value, list | tuple):
        return [essence(one) for one in value]
    if isinstance(value, dict):
        return {key: essence(one) for key, one in value.items()}
    if callable(value) and hasattr(value, "__code__"):
        return value.__code__.co_code
    return value


def runs(target):
    if target is None or isinstance(target, type):
        return target
    if hasattr(target, "spec") or isinstance(target, PipelineSpec):
        return essence(getattr(target, "spec", target))
    if hasattr(target, "text"):
        return target.text
    if hasattr(target, "version"):
        return target.version
    if hasattr(target, "named_predictors"):
        return [type(target), target.dump_state()]
    return essence(target)


PROGRAMS = ("program", "module made", "module without arguments")  # these come back as what makes them


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_comes_back_the_same(kind, tmp_path):
    spec = read_cell("p", KINDS[kind], NAMES)
    path = tmp_path / "p.json"
    write_saved(path, to_saved(spec, module_recipe_for))
    again = from_saved(read_saved(path), file="p.json", trust=True)
    if kind not in PROGRAMS:
        assert essence(again) == essence(spec)
    else:
        assert [step.reads for step in again.steps] == [step.reads for step in spec.steps]
        assert [step.writes for step in again.steps] == [step.writes for step in spec.steps]
        assert again["a"].state == (
            TUNED.dump_state() if kind == "program" else PREDICT.dump_state() if kind == "module made" else None
        )
    assert to_saved(again, module_recipe_for) == to_saved(spec, module_recipe_for)
    assert digest(again, module_recipe_for) == digest(spec, module_recipe_for)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_exported_as_python_that_makes_it_again(kind):
    spec = read_cell("p", KINDS[kind], NAMES)
    source = to_python(spec, module_recipe_for)
    assert max(map(len, source.splitlines())) < 200
    space = {"__name__": "exported"}
    linecache.cache["exported.py"] = (len(source), None, source.splitlines(keepends=True), "exported.py")
    exec(compile(source, "exported.py", "exec"), space)  # noqa: S102 - what export wrote is what is tested
    again = space["p"].spec
    assert to_saved(again, module_recipe_for)["steps"] == to_saved(spec, module_recipe_for)["steps"]


def module_recipe_for(module):
    return module_recipe(module) if hasattr(module, "named_predictors") else None


def test_the_file_is_readable(tmp_path):
    path = tmp_path / "p.json"
    body = "message: str\ntidy = native(clean, 'message -> text')\ndesk = predict(Triage, message=text)"
    write_saved(path, to_saved(read_cell("support", body, NAMES)))
    text = path.read_text()
    assert '"format": "dspex_nb pipeline"' in text
    assert '"of": [{"$name": "clean"}, "message -> text"]' in text
    saved = json.loads(text)
    assert saved["version"] == 1
    assert saved["inputs"] == {"message": {"type": "str"}}
    assert saved["steps"]["tidy"] == {"kind": "native", "of": [{"$name": "clean"}, "message -> text"]}
    assert saved["names"]["clean"] == f"{__name__}:clean"
    assert saved["signatures"]["Triage"]["outputs"]["desk"] == {"type": "Desk"}


# What a file may not do


def hostile(tmp_path, **changes):
    base = {
        "format": "dspex_nb pipeline", "version": 1, "name": "p", "inputs": {"q": {"type": "str"}},
        "steps": {"a": {"kind": "predict", "of": ["q -> x"]}},
    }  # fmt: skip
    path = tmp_path / "evil.json"
    path.write_text(json.dumps({**base, **changes}))
    return path


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module whose import would be seen."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "dspex_trap.py").write_text(
        "import subprocess\nfrom subprocess import run as go\nclass T(str): pass\ndef f(q): return q\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield "dspex_trap"
    sys.modules.pop("dspex_trap", None)


STEP = {"kind": "native", "of": [{"$name": "f"}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": {"a": STEP}, "names": {"f": "dspex_trap:f"}},
        {"steps": {"a": STEP}, "names": {"f": "dspex_trap"}},
        {"steps": {"a": {"kind": "predict", "of": ["q: dspex_trap.T -> x"]}}},
        {"steps": {"a": {"kind": "predict", "of": ["q -> x: list['dspex_trap.T']"]}}},
        {"steps": {"a": {"kind": "native", "of": [{"$name": "len"}, "q: dspex_trap.T -> x"]}}},
        {"inputs": {"q": {"type": "dspex_trap.T"}}},
        {
            "signatures": {"S": {"instructions": "", "inputs": {"q": {"type": "dspex_trap.T"}}, "outputs": {"x": {}}}},
            "steps": {"a": {"kind": "predict", "of": [{"$signature": "S"}]}},
        },
        {"steps": {"a": {"kind": "predict", "of": ["q -> x"], "with": {"demos": {"$model": "dspex_trap.T"}}}}},
        {
            "names": {"f": "dspex_trap:f"},
            "steps": {"a": {"kind": "react", "of": ["q -> x"], "with": {"tools": [{"$name": "f"}]}}},
        },
        {"source": {"f": ["import dspex_trap", "def f(q): return q"]}, "steps": {"a": STEP}},
    ],
)
def test_nothing_is_imported_or_run_for_a_file(changes, tmp_path, trap):
    with pytest.raises(DSPexError) as caught:
        dx.load(hostile(tmp_path, **changes))
    assert trap not in sys.modules
    assert "evil.json" in caught.value.message


@pytest.mark.parametrize(
    "name", ["eval", "exec", "__import__", "open", "getattr", "input", "print", "str.format", "type.mro", "str.__class__"]
)
def test_builtins_that_reach_further_are_not_given(name, tmp_path):
    step = {"kind": "native", "of": [{"$name": name}, "q -> x"]}
    with pytest.raises(DataError, match="names"):
        dx.load(hostile(tmp_path, steps={"a": step}))


@pytest.mark.parametrize(
    "origin",
    ["os:system", "subprocess:run", "builtins:eval", "dspy:load", "dspy.utils.saving:load", "dspy:cloudpickle", "pathlib:os", "typing:sys",
     "dspy:settings", "datetime:sys", "dspy:PythonInterpreter", "collections:namedtuple"],
)  # fmt: skip
def test_functions_of_other_modules_are_not_given(origin, tmp_path):
    with pytest.raises(DataError, match=r"evil.json: it takes|has no"):
        dx.load(hostile(tmp_path, names={"f": origin}, steps={"a": STEP}))


@pytest.mark.parametrize(
    ("origin", "member"),
    [
        ("pathlib:Path", "write_text"), ("pathlib:Path", "unlink"), ("pathlib:Path", "cwd"), ("dspy:Predict", "load"),
        ("dspy:Predict", "save"), ("dspy:Image", "parse_raw"), ("dspy:Image", "parse_file"), ("dspy:Image", "from_url"),
    ],
)  # fmt: skip
def test_a_class_does_not_bring_members_that_read_write_or_unpickle(origin, member, tmp_path):
    step = {"kind": "native", "of": [{"$name": f"C.{member}"}]}
    with pytest.raises(DataError, match=f"it names 'C.{member}'"):
        dx.load(hostile(tmp_path, names={"C": origin}, steps={"a": step}))


def test_members_that_only_compute_and_those_of_the_users_own_classes_are_had(tmp_path, monkeypatch):
    def loaded(origin, member, **given):
        call = hostile(tmp_path, names={"C": origin}, steps={"a": {"kind": "native", "of": [{"$name": member}, "q -> x"]}})
        return dx.load(call, **given).spec["a"].callable

    assert loaded("datetime:date", "C.fromisoformat")("2026-01-02").year == 2026
    assert loaded("pathlib:PurePath", "C.as_posix") is pathlib.PurePath.as_posix
    assert loaded("builtins:str", "str.upper", names={"C": None})("a") == "A"
    monkeypatch.setattr(Shout, "loud", staticmethod(str.upper), raising=False)
    for given in ({"names": {"C": Shout}}, {"modules": [__name__]}):
        assert loaded(f"{__name__}:Shout", "C.loud", **given)("a") == "A"
        with pytest.raises(DataError, match=r"it names 'C\.load'"):
            loaded(f"{__name__}:Shout", "C.load", **given)


@pytest.mark.parametrize("factory", ["typing.sys.exit", "pathlib.os.abort", "datetime.sys.exit", "collections.abc.sys.exit"])
def test_a_type_does_not_reach_what_a_module_of_types_imported(factory, tmp_path):
    kind = f"Annotated[str, Field(default_factory={factory})]"
    field = {"instructions": "", "inputs": {"q": {"type": kind}}, "outputs": {"x": {}}}
    for changes in (
        {"steps": {"a": {"kind": "predict", "of": [f"q: {kind} -> x"]}}},
        {"signatures": {"S": field}, "steps": {"a": {"kind": "predict", "of": [{"$signature": "S"}]}}},
        {"inputs": {"q": {"type": kind}}},
    ):
        with pytest.raises(DSPexError, match="has no type"):
            dx.load(hostile(tmp_path, **changes))


@pytest.mark.parametrize(
    "kind", ["datetime.date", "decimal.Decimal", "typing.Optional[int]", "collections.abc.Sequence[str]", "collections.OrderedDict", "uuid.UUID"]
)  # fmt: skip
def test_types_of_modules_of_types_are_had(kind, tmp_path):
    assert dx.load(hostile(tmp_path, inputs={"q": {"type": kind}})).spec.inputs[0].type == read_type(kind, {})


def test_a_retriever_of_a_file_does_not_connect_to_a_server_of_its_choice(tmp_path, monkeypatch):
    # libpq would send PGPASSWORD to whatever server dsn= names, while the pipeline is being loaded.
    asked = []
    monkeypatch.setattr(postgres.Connections, "__init__", lambda _, dsn, timeout_s: asked.append(dsn))
    monkeypatch.setattr(postgres.Postgres, "_make_table", lambda _: None)
    given = {"query": {"$field": "q"}, "dsn": "postgresql://u@evil/db"}
    path = hostile(tmp_path, steps={"a": {"kind": "retriever", "of": ["postgres"], "with": given}})
    with pytest.raises(DataError, match="dsn= says where requests go"):
        dx.load(path)
    assert asked == []
    dx.load(path, trust=True)
    assert asked == ["postgresql://u@evil/db"]


def test_an_allowed_module_does_not_lend_what_it_imported(tmp_path, trap):
    fine = hostile(tmp_path, names={"f": "dspex_trap:f"}, steps={"a": STEP})
    assert dx.load(fine, modules=[trap]).spec["a"].callable("x") == "x"
    for attribute in ("go", "subprocess"):
        with pytest.raises(DataError, match="it takes 'dspex_trap:"):
            dx.load(hostile(tmp_path, names={"f": f"dspex_trap:{attribute}"}, steps={"a": STEP}), modules=[trap])


@pytest.mark.parametrize("option", ["api_base", "base_url", "api_key", "extra_headers"])
def test_a_file_does_not_say_where_requests_go(option, tmp_path):
    pairs = {"$dict": {"$tuple": [[option, "http://evil"]]}}
    for given in ({"config": {option: "http://evil"}}, {option: "http://evil"}, {"config": pairs}, {"config": {"a": [pairs]}}):
        step = {"kind": "predict", "of": ["q -> x"], "with": given}
        with pytest.raises(DSPexError):
            dx.load(hostile(tmp_path, steps={"a": step}))
    state = {"traces": [], "train": [], "demos": [], "signature": {"instructions": "", "fields": []}, "lm": {"model": "openai/x"}}
    for given in (state, {"$example": state}):
        loaded = dx.load(hostile(tmp_path, steps={"a": {"kind": "predict", "of": ["q -> x"], "with": {"state": given}}}))
        assert loaded.spec["a"].state["lm"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "holds no pipeline"),
        ({"stepz": {}}, "unknown entry 'stepz'"),
        ({"steps": {"a": {"kind": "predikt", "of": ["q -> x"]}}}, "unknown kind 'predikt'"),
        ({"steps": {"a": {"kind": "predict", "of": ["q -> x"], "with": {"temprature": 1}}}}, "no option 'temprature'"),
        ({"steps": {"a": {"kind": "predict", "of": ["q -> x"], "wiht": {}}}}, "unknown entry 'wiht'"),
        ({"steps": {"a": {"kind": "predict", "of": [{"$signature": "S"}]}}}, "no signature 'S'"),
        ({"steps": {"a": {"kind": "predict", "of": [{"$what": 1}]}}}, r"unknown form '\$what'"),
        ({"steps": {"a": 3}}, "expected an object"),
        ({"steps": {"a": {"kind": "predict", "of": ["q ->"]}}}, "step 'a'"),
        ({"steps": {"a": {"kind": "predict", "of": ["z -> x"]}}}, "'z'"),
        ({"steps": {"a": {"kind": [], "of": ["q -> x"]}}}, r"unknown kind \[\]"),
        (
            {
                "signatures": {"S": {"inputs": {"q": {"factory": 5}}, "outputs": {"x": {}}}},
                "steps": {"a": {"kind": "predict", "of": [{"$signature": "S"}]}},
            },
            "step 'a': TypeError",
        ),
        ({"given": {"topics": "BM25"}}, r"needs topics \(BM25\)"),
    ],
)
def test_what_is_wrong_is_said(changes, words, tmp_path):
    with pytest.raises(DSPexError, match=words) as caught:
        dx.load(hostile(tmp_path, **changes))
    assert caught.value.hint


def test_no_json_and_too_deep(tmp_path):
    path = tmp_path / "p.json"
    path.write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        dx.load(path)
    path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(DataError, match="no JSON"):
        dx.load(path)


def test_source_is_refused_by_name_and_own_functions_take_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(clean, "__module__", "__main__")
    path = tmp_path / "p.json"
    dx.Pipeline.of(read_cell("p", "text: str\na = clean", NAMES)).save(path)
    with pytest.raises(DataError, match="carries the source of clean, which loading would run") as caught:
        dx.load(path)
    assert "trust=True" in caught.value.hint
    assert '"source"' in caught.value.hint
    trusted = dx.load(path, trust=True)
    assert trusted(text=" x ").a == "x"
    assert trusted.save(tmp_path / "again.json").read_text() == path.read_text()
    assert dx.load(path, names={"clean": lambda text: len(text)})(text="abc").a == 3


def test_objects_without_a_written_form_are_given_again(tmp_path):
    index = dx.retriever("bm25", index=["the moon", "the sun"])
    spec = read_cell("p", "q: str\nhits = retriever(index, query=q)\nmore = predict('q -> x', config={'a': 1})", {"index": index})
    path = dx.Pipeline.of(spec).save(tmp_path / "p.json")
    assert json.loads(path.read_text())["given"] == {"index": "BM25"}
    with pytest.raises(DataError, match=r"needs index \(BM25\)"):
        dx.load(path)
    assert dx.load(path, names={"index": index}).spec["hits"].callable is index
    with pytest.raises(PipelineError, match="whose making is not written"):
        to_python(spec)


def test_secrets_are_not_saved(tmp_path, monkeypatch):
    # Making the step would connect; what is saved does not depend on it.
    monkeypatch.setattr(postgres.Postgres, "_make_table", lambda _: None)
    monkeypatch.setattr(postgres.Connections, "__init__", lambda *_: None)
    body = "q: str\nhits = retriever('postgres', dsn={}, query=q)"
    text = "'postgresql://me:hunter2@127.0.0.1:1/db'"
    spec = read_cell("p", body.format(text), {})
    for write in (to_saved, to_python):
        with pytest.raises(PipelineError, match="holds a secret") as caught:
            write(spec)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token", "sk-hunter2"), ("OPENAI_API_KEY", "sk-hunter2"), ("where", "postgresql://me:hunter2@host/db"),
        ("mine", "sk-proj-hunter2-0123456789"),
    ],
)  # fmt: skip
def test_secrets_that_a_function_of_the_notebook_uses_are_not_saved(name, value, tmp_path, monkeypatch):
    monkeypatch.setattr(clean, "__module__", "__main__")
    monkeypatch.setitem(clean.__globals__, name, value)
    monkeypatch.setattr("dspex_nb.pipelines.sources._names_in", lambda _: [name])
    spec = read_cell("p", "text: str\na = clean", NAMES)
    for file in ("p.json", "p.py"):
        with pytest.raises(PipelineError, match=f"variable '{name}', which holds a secret") as caught:
            dx.Pipeline.of(spec).save(tmp_path / file)
        assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert digest(spec)  # a map still knows its rows again
    monkeypatch.setitem(clean.__globals__, name, 5)
    dx.Pipeline.of(spec).save(tmp_path / "p.json")


def test_a_path_without_a_known_ending(tmp_path):
    with pytest.raises(DataError, match="JSON or as Python"):
        dx.Pipeline("p", a=dx.predict("q -> x")).save(tmp_path / "p.yaml")
