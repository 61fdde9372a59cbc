"""How a magic's line is read."""

import pytest

from dspex_nb.errors import MagicUsageError
from dspex_nb.magics.arguments import Option, Usage
from dspex_nb.magics.namespace import literal, lookup, lookup_data, lookup_metrics, typed

USAGE = Usage(
    "%do",
    "Does.",
    ("what", "[how]"),
    (
        Option("n-jobs", "rows", "N"),
        Option("inputs", "values", "a=1 …", many=True),
        Option("fast", "a flag"),
        Option("mode", "one of two", "MODE", choices=("slow", "quick")),
    ),
    "%do it --fast",
)


@pytest.mark.parametrize(
    ("line", "words", "values"),
    [
        ("it", ("it",), {}),
        ("it well --fast", ("it", "well"), {"fast": True}),
        ("it --n-jobs 4", ("it",), {"n_jobs": "4"}),
        ("it --n-jobs=4", ("it",), {"n_jobs": "4"}),
        ("it --n_jobs 4", ("it",), {"n_jobs": "4"}),
        ("it --n-jobs -1 well", ("it", "well"), {"n_jobs": "-1"}),
        ("it --inputs a=1 'b=two words' --fast", ("it",), {"inputs": ["a=1", "b=two words"], "fast": True}),
        ("--mode quick it", ("it",), {"mode": "quick"}),
        ("--help", (), {"help": True}),
    ],
)
def test_lines(line, words, values):
    read = USAGE.parse(line)
    assert (read.words, dict(read.values), dict(read.extra)) == (words, values, {})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "needs a what after it"),
        ("a b c", "takes 2"),
        ("it --fst", "did you mean '--fast'"),
        ("it --n-jobs", "needs N"),
        ("it --mode fas", "slow, quick"),
        ("it --mode quik", "did you mean 'quick'"),
        ("it 'open", "close the quote"),
    ],
)
def test_lines_that_cannot_be_read(line, told):
    with pytest.raises(MagicUsageError) as raised:
        USAGE.parse(line)
    assert told in str(raised.value)


def test_unknown_options_are_kept_for_an_optimizer():
    usage = Usage("%opt", "Tunes.", ("program",), extra=True)
    assert dict(usage.parse("p --max-rounds 2 --sample --x=y").extra) == {"max_rounds": "2", "sample": "True", "x": "y"}


def test_numbers():
    read = USAGE.parse("it --n-jobs 4 --mode quick")
    assert read.number("n_jobs") == 4
    assert read.number("n_jobs", float) == 4.0
    assert read.number("seed") is None
    with pytest.raises(MagicUsageError, match="--mode takes a whole number, got 'quick'"):
        read.number("mode")


def test_help_names_every_option():
    text = USAGE.help_text()
    assert all(f"--{option.name}" in text and option.help in text for option in USAGE.options)
    assert "%do it --fast" in text


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.5", 0.5), ("true", True), ("None", None), ("light", "light"), ("1e-3", 0.001), ("", "")]
)
def test_literals(text, value):
    assert literal(text) == value
    assert type(literal(text)) is type(value)


def test_values_follow_the_type_of_their_input():
    assert typed("123", str, {}) == "123"
    assert typed("123", int, {}) == 123
    assert typed("[1, 'a']", list, {}) == [1, "a"]
    assert typed("true", bool, {}) is True
    assert typed("plain words", None, {}) == "plain words"
    assert typed("{rows}", list, {"rows": [1]}) == [1]
    assert typed("{'a': 1}", dict, {}) == {"a": 1}
    with pytest.raises(MagicUsageError, match="no variable 'row'"):
        typed("{row}", list, {"rows": [1]})
    assert typed("__import__('os')", None, {}) == "__import__('os')"  # text is never run
    assert typed("3", float, {}) == 3
    assert typed("(1, 2)", list, {}) == (1, 2)
    for text, kind in (("__import__('os')", int), ("x", int), ("0.5", int), ("[1]", int), ("much", float), ("3", list)):
        with pytest.raises(MagicUsageError, match=f"is no {kind.__name__}"):
            typed(text, kind, {})


def test_names_are_looked_up():
    class Box:
        train = (1,)

    names = {"box": Box, "right": len, "f1": 3}
    assert lookup("box.train", names, "x") == (1,)
    with pytest.raises(MagicUsageError, match="did you mean 'train'"):
        lookup("box.trian", names, "x")
    assert lookup_data("data/test.csv", names) == "data/test.csv"
    assert lookup_data([1], names) == [1]
    assert lookup_metrics("right, f1:desk ,f1", names) == [len, "f1:desk", "f1"]
    assert lookup_metrics(len, names) == [len]
    assert lookup_metrics([len, "f1"], names) == [len, "f1"]
