"""The metrics with names: what each tells of itself, what its name may hold, and how it is over a set."""

import inspect
import re
import sys
from dataclasses import dataclass, field

import cloudpickle
import dspy
import pytest

from dspex_nb import metrics
from dspex_nb.errors import MetricError, MissingDependencyError
from dspex_nb.examples import Example
from dspex_nb.messages import Usage
from dspex_nb.metrics import BUILTIN, bootstrap_interval, mean_interval, resolve_metric
from dspex_nb.metrics.registry import Builtin
from dspex_nb.passages import Passage
from dspex_nb.predictions import Facts, Prediction

NATIVE = {name: entry for name, entry in BUILTIN.items() if isinstance(entry, Builtin)}
FUNCTIONS = [entry.function for entry in NATIVE.values()] + [metrics.confusion, metrics.corpus_bleu, metrics.corpus_chrf]


@dataclass
class Row:
    labels: dict
    outputs: dict
    inputs: dict = field(default_factory=dict)
    scores: dict = field(default_factory=dict)


def rows(metric, *pairs):
    """Rows of one field, scored as an evaluation scores them; None is a program that failed."""
    made = []
    for got, want in pairs:
        outputs = {} if got is None else {"y": got}
        score = 0.0 if got is None else metric(Example({"y": want}, []), Prediction(outputs))
        made.append(Row({"y": want}, outputs, scores={metric.name: score}))
    return made


def test_what_the_issue_names_is_there():
    wanted = """exact_match f1 precision recall contains passage_match numeric_match numeric_match@tolerance json_match field_match list_f1
        rouge_l bleu chrf edit_distance edit_similarity accuracy macro_f1 recall@k mrr mrr@k ndcg ndcg@k latency cost tokens"""
    assert set(wanted.split()) == set(NATIVE)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_each_tells_its_range_direction_and_source(function):
    text = inspect.getdoc(function)
    assert re.search(r"^Range .+; (higher|lower) is better.*\.$", text, re.MULTILINE)
    assert re.search(r"^Source: .{10,}", text, re.MULTILINE)
    lower = {entry.lower_is_better for entry in NATIVE.values() if entry.function is function} == {True}
    assert ("lower is better" in text) == lower


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_each_name_scores_and_crosses_to_another_process(name):
    example = Example({"q": "?", "y": "3 cats", "docs": ["a"]}, ["q"])
    prediction = Prediction({"y": "3 cats", "docs": ["a"]}, Facts(Usage(5, 2), cost=0.5, elapsed_s=1.5))
    asked = name.replace("@k", "@5").replace("@tolerance", "@0.1")
    metric = cloudpickle.loads(cloudpickle.dumps(resolve_metric(asked + ("" if NATIVE[name].of_prediction else ":y"))))
    assert metric(example, prediction) == {"latency": 1.5, "cost": 0.5, "tokens": 7, "edit_distance": 0}.get(
        name, pytest.approx(1)
    )
    assert metric.lower_is_better == NATIVE[name].lower_is_better


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("recall@k", "write e.g. recall@5"),
        ("recall@0", "no number above 0"),
        ("ndcg@x:y", "'x' in ndcg@x is no number"),
        ("numeric_match@-1", "write e.g. numeric_match@0.01"),
        ("f1@5", "no metric 'f1@5'"),
        ("rouge", "did you mean 'rouge_l'"),
        ("passage_match:context=", "names no field on one side"),
        ("passage_match:=answer", "names no field on one side"),
    ],
)
def test_names_that_say_nothing(name, told):
    with pytest.raises(MetricError) as raised:
        resolve_metric(name)
    assert told in str(raised.value)


def test_fields_of_different_names_and_inner_ones():
    example = Example({"question": "?", "answer": "Paris", "relevant": ["d2", "d9"]}, ["question"])
    found = [Passage("London is big", "d1"), Passage("It is Paris.", "d2")]
    inner = Prediction({"answer": "Rome"}, Facts(fields={"context": found}))
    assert resolve_metric("passage_match:context=answer")(example, inner) == 1.0
    assert resolve_metric("recall@1:context=relevant")(example, inner) == 0.0
    assert resolve_metric("recall@2:context=relevant")(example, inner) == 0.5
    assert resolve_metric("mrr:context=relevant")(example, inner) == 0.5
    with pytest.raises(MetricError, match="the prediction has no field 'contxt'"):
        resolve_metric("passage_match:contxt=answer")(example, inner)


def test_numbers_as_they_are_written():
    for text, value in (
        ("$1,234.50", 1234.5),
        ("3-4", 4),
        ("-.5", -0.5),
        ("1e-3 m", 0.001),
        ("from 2 to -7.", -7),
        (10**400, "1e400"),
    ):
        assert metrics.numeric_match(text, value) == 1.0
    assert metrics.numeric_match("99", 100, 0.01) == 1.0
    assert metrics.numeric_match("98", 100, 0.01) == 0.0
    assert metrics.numeric_match(float("nan"), 1) == 0.0
    for got, want in ((5, 10**400), ("5", "1e999"), ("1e999", "-1e999")):  # beyond a float: only itself is near it
        assert metrics.numeric_match(got, want) == 0.0
    assert metrics.numeric_match(10**400, "1e999") == 1.0


def test_json_and_lists_from_a_models_text():
    assert metrics.json_match('{"a": 1, "b": [true]}', {"b": [True], "a": 1.0}) == 1.0
    assert metrics.json_match("[1]", [True]) == 0.0
    assert metrics.json_match("[" * 100_000, [1]) == 0.0  # too deep to read is no answer, and no crash
    assert metrics.field_match({"name": "The Cat", "age": 4, "x": 1}, {"name": "cat", "age": 3}) == 0.5
    assert metrics.list_f1("red, Blue", ["blue", "green", "red"]) == pytest.approx(0.8)
    assert metrics.list_f1(None, []) == 1.0


def test_a_label_that_only_an_unlabelled_row_was_given_scores_nothing():
    scores = {one.label: (one.precision, one.f1, one.support) for one in metrics.confusion(["x", "a"], [None, "a"]).scores}
    assert scores == {"x": (0.0, 0.0, 0), "a": (1.0, 1.0, 1)}


def test_labels_over_a_set():
    found = metrics.confusion(["Tech", "hr", None], ["tech", "Tech ", "hr"])
    assert (found.labels, found.counts, found.unanswered) == (("hr", "Tech"), ((0, 0), (1, 1)), (1, 0))
    assert [(one.label, one.precision, one.recall, one.support) for one in found.scores] == [("hr", 0, 0, 1), ("Tech", 1, 0.5, 2)]
    assert metrics.macro_f1(["Tech", "hr", None], ["tech", "Tech ", "hr"]) == pytest.approx((0 + 2 / 3) / 2)
    assert metrics.accuracy(["A", "B"], ["a", "c"]) == 0.5
    with pytest.raises(MetricError, match="2 predictions and 1 references"):
        metrics.macro_f1(["a", "b"], ["a"])


def test_a_mean_over_rows():
    metric = resolve_metric("f1")
    scored = rows(metric, ("a cat", "cat"), ("dog", "cat"), (None, "cat"))
    assert metric.over(scored) == mean_interval([1.0, 0.0, 0.0])
    assert metric.over([]).n == 0


@pytest.mark.parametrize("name", ["macro_f1", "macro_f1:y", "macro_f1:y=y"])
def test_a_set_as_a_whole(name):
    metric = resolve_metric(name)
    scored = rows(metric, *[("x", "x")] * 90, *[("x", "y")] * 9, (None, "y"))
    found = metric.over(scored)
    assert found.mean == pytest.approx(metrics.macro_f1(["x"] * 99 + [None], ["x"] * 90 + ["y"] * 10))
    assert found.mean < 0.5 < mean_interval([row.scores[name] for row in scored]).mean  # what the mean of rows would hide
    assert found.low < found.mean < found.high
    assert metric.over(scored) == found  # the same draws
    with pytest.raises(MetricError, match="no label of the rows"):
        resolve_metric("macro_f1").over([Row({"z": 1}, {"y": 1})])


def test_a_sets_bleu_is_no_mean():
    metric = resolve_metric("bleu")
    pairs = [("the cat sat on the mat", "the cat sat on a mat"), ("dogs", "cats ran off"), (None, "one two three four")]
    scored = rows(metric, *pairs)
    whole = metrics.corpus_bleu([got or "" for got, _ in pairs], [want for _, want in pairs])
    assert metric.over(scored).mean == pytest.approx(whole)
    assert whole != pytest.approx(mean_interval([row.scores["bleu"] for row in scored]).mean)


def test_bootstrap_intervals_are_about_right():
    import numpy as np

    values = np.array([0.0] * 60 + [1.0] * 40)
    found = bootstrap_interval(100, lambda at: values[at].mean(), seed=3)
    assert found.mean == pytest.approx(0.4)
    assert found.low == pytest.approx(0.4 - 1.96 * 0.049, abs=0.02)
    assert found.high == pytest.approx(0.4 + 1.96 * 0.049, abs=0.02)
    assert bootstrap_interval(0, len).n == 0


def test_facts_that_nobody_knows_are_no_number():
    unknown, plain = Prediction({"y": 1}, Facts(cost=None)), dspy.Prediction(y=1)
    for name in ("latency", "cost", "tokens"):
        with pytest.raises(MetricError, match=r"not measured|unknown|not counted"):
            resolve_metric(name)(Example({}, []), plain)
    with pytest.raises(MetricError, match="no known price"):
        resolve_metric("cost")(Example({}, []), unknown)
    plain.set_lm_usage({"m": {"total_tokens": 7}, "n": {"total_tokens": 2}})
    assert resolve_metric("tokens")(Example({}, []), plain) == 9


def test_without_sacrebleu_the_message_ends_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingDependencyError) as raised:
        metrics.bleu("a", "b")
    assert str(raised.value).endswith("pip install 'dspex_nb[metrics]'")


class TestAsDSPyCallsThem:
    EXAMPLE, PREDICTION = Example({"answer": "a"}, []), Prediction({"answer": "a"})

    def test_a_trace_reaches_the_metric(self):
        seen = []

        def strict(example, prediction, trace=None):
            seen.append(trace)
            return trace is not None

        metric = resolve_metric(strict)
        assert (metric(self.EXAMPLE, self.PREDICTION), metric(self.EXAMPLE, self.PREDICTION, [1])) == (0.0, 1.0)
        assert seen == [None, [1]]

    def test_gepas_five_arguments_and_feedback(self):
        def told(gold, pred, trace=None, pred_name=None, pred_trace=None):
            return dspy.Prediction(score=0.25, feedback=f"{pred_name}: more")

        metric = resolve_metric(told)
        inspect.signature(metric).bind(None, None, None, None, None)  # GEPA asks so whether a metric will do
        assert metric(self.EXAMPLE, self.PREDICTION) == 0.25
        assert metric(self.EXAMPLE, self.PREDICTION, [], "step", []).feedback == "step: more"
        assert metric.raw(self.EXAMPLE, self.PREDICTION).feedback == "None: more"

    def test_a_fourth_parameter_of_its_own_is_left_alone(self):
        metric = resolve_metric(dspy.evaluate.answer_exact_match)  # (example, pred, trace=None, frac=1.0)
        example = dspy.Example(answer="Paris")
        assert metric(example, dspy.Prediction(answer="paris"), [], "step", []) is True
        assert metric(example, dspy.Prediction(answer="paris")) == 1.0

    def test_an_object_that_is_called(self):
        class Own(dspy.Module):
            def forward(self, example, pred, trace=None):
                return dspy.Prediction(score=1.0 if trace is None else 0.5)

        metric = resolve_metric(Own())
        assert (metric.name, metric(self.EXAMPLE, self.PREDICTION), metric(self.EXAMPLE, self.PREDICTION, [1])) == (
            "Own",
            1.0,
            0.5,
        )

    def test_numbers_of_numpy_count_and_nan_does_not(self):
        import numpy as np

        assert resolve_metric(lambda e, p: np.float32(0.5))(self.EXAMPLE, self.PREDICTION) == 0.5
        with pytest.raises(MetricError, match="expected a number"):
            resolve_metric(lambda e, p: float("nan"))(self.EXAMPLE, self.PREDICTION)
