from __future__ import annotations

import json
import re

import pytest

import dspex_nb as dx
from dspex_nb.errors import RetrieverError
from dspex_nb.passages import Passage
from dspex_nb.retrieval import respond

HITS = [
    Passage("A for loop iterates over the elements of a sequence.", "for#1", metadata={"title": "for", "source": "pydoc_data.topics"}),
    Passage("The while statement repeats as long as an expression is true.", "while#0", metadata={"title": "while", "source": "https://docs.example/while?a=1"}),
    Passage("Dictionaries map hashable keys to arbitrary objects.", "dict#2"),
]  # fmt: skip


def numbers(report):
    return [one.number for one in report.citations]


class TestMarks:
    @pytest.mark.parametrize(
        ("answer", "kept", "cited", "removed"),
        [
            ("Loops [1]. Maps [3].", "Loops [1]. Maps [3].", [1, 3], ()),
            ("Loops [4].", "Loops.", [], (4,)),
            ("Loops [1, 9] and [0].", "Loops [1] and.", [1], (9, 0)),
            ("Loops [1-3].", "Loops [1, 2, 3].", [1, 2, 3], ()),
            ("Loops [2\u201399].", "Loops [2].", [2], (99,)),
            ("Loops[2][3].", "Loops[2][3].", [2, 3], ()),
            ("Twice [2] the same [2].", "Twice [2] the same [2].", [2], ()),
            ("items[0] is the first [1].", "items[0] is the first [1].", [1], ()),
            ("`a[7]` and\n```py\nb[8] = '[9]'\n```\nsee [2].", "`a[7]` and\n```py\nb[8] = '[9]'\n```\nsee [2].", [2], ()),
            ("A link [7](http://x) and [1].", "A link [7](http://x) and [1].", [1], ()),
            ("Nested [[9]8] [[7]2].", "Nested [2].", [2], (9, 7, 8)),
            ("A year [2026] [1].", "A year [1].", [1], (2026,)),
        ],
    )
    def test_those_that_point_nowhere_go(self, answer, kept, cited, removed):
        report = respond(answer, HITS)
        assert (report.answer, numbers(report), report.removed) == (kept, cited, removed)

    def test_without_passages_none_stays(self):
        report = respond("Loops [1] and [2].", [])
        assert (report.text, report.citations, report.removed) == ("Loops and.", (), (1, 2))

    def test_without_citations(self):
        report = respond("A for loop iterates over elements [1].", HITS, citations=False)
        assert (report.text, report.citations) == ("A for loop iterates over elements.", ())


class TestSupport:
    def test_a_sentence_gets_the_passage_that_holds_its_words(self):
        report = respond(
            "Loops are nice! A while statement repeats while the expression is true. Dictionaries map keys to objects", HITS
        )
        assert (
            report.answer
            == "Loops are nice! A while statement repeats while the expression is true [2]. Dictionaries map keys to objects [3]"
        )
        assert [one.passage_id for one in report.citations] == ["while#0", "dict#2"]

    @pytest.mark.parametrize(
        "answer",
        [
            "Bananas grow in warm countries.",
            "Yes.",
            "",
            "# A for loop iterates over elements",
            "| while | statement |",
            "`for loop iterates elements sequence`",
        ],
    )
    def test_else_none(self, answer):
        report = respond(answer, HITS)
        assert (report.text, report.citations) == (answer, ())

    def test_marks_are_never_added_beside_given_ones(self):
        assert respond("Dictionaries map keys to objects. See [1].", HITS).answer == "Dictionaries map keys to objects. See [1]."

    def test_an_invented_mark_is_replaced_by_support(self):
        report = respond("Dictionaries map keys to objects [8].", HITS)
        assert (report.answer, report.removed) == ("Dictionaries map keys to objects [3].", (8,))

    def test_lines_and_other_scripts(self):
        hits = [Passage("東京は日本の首都です。"), Passage("Столица России: Москва")]
        report = respond("- Москва: столица России\n- 東京は日本の首都です。", hits)
        assert report.answer == "- Москва: столица России [2]\n- 東京は日本の首都です [1]。"


def test_markdown():
    report = respond("Loops [1], [2].", HITS)
    assert (
        str(report)
        == report._repr_markdown_()
        == (
            "Loops [1], [2].\n\n**Sources**\n\n"
            "- \\[1\\] **for**, pydoc\\_data.topics: A for loop iterates over the elements of a sequence.\n"
            "- \\[2\\] **while**, <https://docs.example/while?a=1>: The while statement repeats as long as an expression is true."
        )
    )
    assert report._repr_html_() is None
    assert "- \\[3\\] `dict#2`: Dictionaries" in str(respond("Maps [3].", HITS))


NASTY = "<script>alert(1)</script><img src=x onerror=a()>"


def test_nothing_from_outside_becomes_markup():
    hits = [
        Passage(
            f"{NASTY} **bold** [x](javascript:a())\n\n# heading",
            f"`{NASTY}`",
            metadata={"title": NASTY, "source": 'https://x/" onclick="a()'},
        )
    ]
    page = str(respond(f"{NASTY} [1]", hits, "html"))
    assert set(re.findall(r"<(\w+)", page)) == {"div", "p", "strong", "ol", "li"}
    assert not re.search(r"<[^>]*(onerror|onclick|javascript)", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    text = str(respond(f"{NASTY} [1] `<b>` kept", hits))
    assert "`<b>` kept" in text
    assert not re.search(r"(?<!\\)<(?!b>`)", text)
    assert "\\[x\\](javascript" in text
    assert "\n# heading" not in text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("\\<img src=x>", "\\<img src=x>"), ("\\\\<img src=x>", "\\\\\\<img src=x>"), ("![a](https://x/?q=1)", "\\![a](https://x/?q=1)"), ("\\![a](b)", "\\![a](b)"),
        ("\\\\![a](b)", "\\\\\\![a](b)"), ("!![a][b]", "!\\![a][b]"), ("Stop! [a](b) `![c](d)` 1 < 2!", "Stop! [a](b) `![c](d)` 1 < 2!"),
    ],
)  # fmt: skip
def test_tags_and_images_of_an_answer_are_text_whatever_backslashes_stand_before_them(answer, text):
    assert str(respond(answer, citations=False)) == text


def test_html():
    report = respond("First [2].\n\n  code\n  more", HITS, "html")
    assert report._repr_html_() == str(report)
    assert report._repr_markdown_() is None
    assert '<a href="https://docs.example/while?a=1" rel="noopener noreferrer">while</a>' in str(report)
    assert '<li value="2">' in str(report)
    assert '<p style="white-space: pre-wrap">  code\n  more</p>' in str(report)


def test_json():
    report = respond("Grüße [1] [5]", HITS, "json")
    assert json.loads(str(report)) == {
        "answer": "Grüße [1]",
        "citations": [{"number": 1, "passage_id": "for#1", "source": "pydoc_data.topics", "excerpt": HITS[0].text}],
    }
    assert "Grüße" in str(report)
    assert report._repr_html_() is report._repr_markdown_() is None


def test_a_long_passage_is_shown_by_its_begin():
    (one,) = respond("See [1].", ["word " * 200]).citations
    assert len(one.excerpt) <= 160
    assert one.excerpt.endswith("word…")


def test_other_answers_than_text():
    assert respond(None, HITS).text == ""
    assert respond(42, HITS).text == "42"
    with pytest.raises(RetrieverError, match="no format 'markdwn'") as caught:
        respond("a", HITS, "markdwn")
    assert "did you mean 'markdown'" in caught.value.hint
    with pytest.raises(RetrieverError, match="expected a list of passages, found a str"):
        respond("a", "one text")


@pytest.mark.parametrize(
    "answer",
    [
        "`\n\n<img src=x>\n\n`", "a `b\n# c\n<img src=x>`", "a `b\n- <img src=x>`", "\\`<img src=x>\\`", "``` a`b\n\n<img src=x>",
    ],
)  # fmt: skip
def test_what_markdown_does_not_take_for_code_hides_no_tag(answer):
    assert str(respond(answer, citations=False)) == answer.replace("<", "\\<")


def test_code_stays_as_it_is():
    listed = (
        "1. Do:\n\n    ```py\n    x = a[9]\n\n    <b>\n    ```\n2. Then.",
        "- ```\n  <b> [9]\n  ```\n- c",
        "* ~~~\n  <b> [9]\n  ~~~",
    )
    for answer in (
        *listed,
        "`<b>`",
        "`` <b> ` ``",
        "a `b\nc <b>` d",
        "```html\n<b>\n\n<i>\n```",
        "~~~ a`b\n<b>\n~~~",
        "x\n```\n<b>",
    ):
        assert str(respond(answer, citations=False)) == answer
        assert respond(answer, ["p"]).answer == answer


def test_by_hand_it_is_written_at_once():
    text = "Dictionaries map keys to objects."
    assert dx.respond(text, passages=HITS) == respond(text, HITS)
    assert dx.respond(text, passages=HITS, format="json", citations=False).format == "json"
    with pytest.raises(RetrieverError, match="no format 'markdwn'"):
        dx.respond(text, passages=HITS, format="markdwn")


def test_with_fields_it_is_a_step():
    def answered(q):
        return "Dictionaries map keys to objects."

    pipe = dx.Pipeline(
        "p",
        hits=dx.retriever("bm25", index=[one.text for one in HITS]),
        answer=dx.native(answered, q=dx.field("query")),
        report=dx.respond(dx.field("answer"), passages=dx.field("hits")),
    )
    assert pipe(query="dictionary keys").report.citations
