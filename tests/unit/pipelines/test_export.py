"""`to_python`: the file it gives makes the same pipeline."""

import functools
import inspect
import json

import pytest

import dspex_nb
from dspex_nb import pipelines
from dspex_nb.errors import PipelineError
from dspex_nb.pipelines import FieldRef, PipelineSpec, Step, build, read_cell, to_python
from dspex_nb.signatures import InputField, OutputField, Signature, parse_cell

LIMIT = 4


def helper(text: str) -> str:
    return json.dumps(text)[: LIMIT + 2]


def clean(text: str) -> str:
    return helper(text).strip('"')


NAMES = ("native", "predict", "chain_of_thought", "module", "template", "parallel", "field", "refine", "react")


def run(source, monkeypatch):
    """Run an exported file and return the pipeline it makes; `dx` has the constructors, as the façade does."""
    for name in NAMES:
        monkeypatch.setattr(dspex_nb, name, getattr(pipelines, name), raising=False)
    for name, value in {"Signature": Signature, "InputField": InputField, "OutputField": OutputField}.items():
        monkeypatch.setattr(dspex_nb, name, value, raising=False)
    monkeypatch.setattr(dspex_nb, "Pipeline", lambda name, inputs=None, **steps: build(name, steps, inputs), raising=False)
    space = {"__name__": "exported"}
    exec(compile(source, "exported.py", "exec"), space)  # noqa: S102 - what export wrote is what is tested
    return next(value for value in space.values() if isinstance(value, PipelineSpec))


def essence(step: Step):
    """What a step does, without where it was written."""
    called = getattr(step.callable, "__name__", None) or getattr(step.callable, "text", None)
    fallback = essence(step.on_error) if isinstance(step.on_error, Step) else step.on_error
    when = None if step.when is None else dict(step.when.bindings)
    return (
        step.name, step.kind, None if step.signature is None else step.signature.digest, called, dict(step.options), dict(step.bindings), step.reads,
        step.writes, [essence(child) for child in step.children], fallback, step.retry, step.timeout_s, when, step.over, step.cache, step.ttl_s, step.engine,
    )  # fmt: skip


CELL = """
message: str
k: int = 3
tidy   = clean(message)
triage = predict(Triage, message=tidy, temperature=0.2)
why    = chain_of_thought("message, desk -> reason", engine="dspy", when=urgency > 3, on_error="skip")
both   = parallel(clean, tone=predict("text -> tone"), text=tidy)
short  = native(lambda text: text[:10], "text -> first", text=why.reasoning)
words  = native(str.split, "text -> words: list[str]", text=tidy)
each   = predict("word -> label", over=words, on_error=predict("word -> label"))
views  = parallel(tone=predict("word -> tone_"), more=parallel(clean, plain=clean), text=tidy, over=words)
reply  = template("Dear {{ tone }}, {{ reason }}", tone=both.tone)
cache(ttl="1h")
retry(2)
"""


def test_an_exported_pipeline_is_the_same_pipeline(monkeypatch):
    triage = parse_cell(
        "Triage", "Route it.\nmessage: str  # what they wrote\n->\ndesk: Literal['billing', 'tech']\nurgency: int  # 1 to 5", {}
    )
    spec = read_cell(
        "support",
        CELL.replace("words  = native(str.split, ", "words  = native(split, "),
        {"Triage": triage, "clean": clean, "split": split},
    )
    again = run(to_python(spec), monkeypatch)
    assert [essence(step) for step in again.steps] == [essence(step) for step in spec.steps]
    assert [(one.name, one.type, one.default) for one in again.inputs] == [
        (one.name, one.type, one.default) for one in spec.inputs
    ]
    assert (again.edges(), again.result) == (spec.edges(), spec.result)
    assert again["short"].callable("a" * 30) == "a" * 10
    assert again["why"].when.holds({"triage": {"urgency": 4}, "": {}})


def split(text: str) -> list:
    return text.split()


def test_functions_of_the_notebook_bring_their_source_and_what_they_use(monkeypatch):
    monkeypatch.setattr(clean, "__module__", "__main__")
    monkeypatch.setattr(helper, "__module__", "__main__")
    source = to_python(read_cell("p", "text: str\na = clean", {"clean": clean}))
    assert "import json" in source
    assert "LIMIT = 4" in source
    assert source.index("def helper") < source.index("def clean")
    again = run(source, monkeypatch)
    assert again["a"].callable("abcdef") == clean("abcdef")


def exclaimed(function):
    @functools.wraps(function)
    def inner(text: str) -> str:
        return function(text) + "!"

    return inner


def bare(function):
    def around(text: str) -> str:
        return function(text) + "!"

    return around


@exclaimed
@functools.lru_cache
def loud(text: str) -> str:
    return text.upper() if len(text) < LIMIT else loud(text[1:])


@bare
def quiet(text: str) -> str:
    return text.lower()


by_hand = exclaimed(helper)


def test_a_decorated_function_brings_its_decorators(monkeypatch):
    for name in ("loud", "exclaimed", "bare", "quiet", "helper"):
        monkeypatch.setattr(globals()[name], "__module__", "__main__")
    again = run(to_python(read_cell("p", "text: str\na = loud", {"loud": loud})), monkeypatch)
    assert again["a"].callable("abcdef") == loud("abcdef") == "DEF!!!!"
    for function, why in ((quiet, "decorator of 'quiet' puts another function"), (by_hand, "'helper' was wrapped by a call")):
        monkeypatch.setattr(inspect.unwrap(function), "__module__", "__main__")
        with pytest.raises(PipelineError, match=why):
            to_python(read_cell("p", "text: str\na = f", {"f": function}))


def token_of(answer):
    return answer.LIMIT, [one.helper for one in answer.items]


def test_an_attributes_name_does_not_bring_a_variable_of_that_name(monkeypatch):
    monkeypatch.setattr(token_of, "__module__", "__main__")
    source = to_python(read_cell("p", "answer: Any\na = token_of", {"token_of": token_of}))
    assert "LIMIT = 4" not in source
    assert "def helper" not in source


def test_versions_and_inner_pipelines_survive(monkeypatch):
    inner = read_cell("inner", 'message: str\na = predict("message -> desk")', {})
    body = 'message: str\nfix = predict("raw -> message", raw=message)\nsupport = inner\nend = predict("message, desk -> reply")'
    spec = read_cell("outer", body, {"inner": inner})
    again = run(to_python(spec), monkeypatch)
    assert again["support"].bindings == spec["support"].bindings == {"message": FieldRef("message", "fix")}
    assert again["end"].bindings == spec["end"].bindings


def test_modules_written_in_the_cell_are_made_again(monkeypatch):
    import dspy

    spec = read_cell("p", 'question: str\na = dspy.ChainOfThought("question -> answer")', {"dspy": dspy})
    again = run(to_python(spec), monkeypatch)
    assert (again["a"].callable, again["a"].signature) == (dspy.ChainOfThought, spec["a"].signature)


def test_what_has_no_source_is_refused_by_name():
    spec = build("p", {"a": pipelines.predict("q -> x", config={"tool": object()})})
    with pytest.raises(PipelineError, match=r"step 'a', config= is a object"):
        to_python(spec)
