"""The table of an evaluation's examples: found, filtered, sorted, paged, opened."""

import re

from dspex_nb import views as v


def example(at, **more):
    return v.ExampleInfo(
        at,
        {"text": f"Row {at} Alpha"},
        {"label": "a"},
        {"label": "ab"[at % 2]},
        {"m": float(at % 2 == 0)},
        at % 2 == 0,
        at / 10,
        **more,
    )


def table(count=45):
    return v.ExampleTable(["m"], [example(at) for at in range(count)])


def numbers(made):
    return [int(n) for n in re.findall(r'<tr[^>]* data-dspex-action="open" data-dspex-value="(\d+)"', made.html())]


def test_pages():
    made = table()
    assert numbers(made) == list(range(20))
    made.turn("2")
    assert numbers(made) == list(range(40, 45))
    assert "page 3 of 3" in made.html()
    made.turn("99")
    assert numbers(made) == list(range(40, 45))
    made.turn("x")
    assert numbers(made) == list(range(20))


def test_found_in_any_case_and_anywhere():
    made = table()
    made.add(example(45, error="Timed OUT"))
    made.find("  timed out ")
    assert numbers(made) == [45]
    made.find("row 1")
    assert numbers(made) == [1, *range(10, 20)]
    made.find("nowhere")
    assert "no example matches" in made.html()
    made.find("")
    assert len(numbers(made)) == 20


def test_which_are_shown():
    made = table(6)
    made.add(example(6, error="broken"))
    for which, expected in (
        ("failures", [1, 3, 5, 6]),
        ("errors", [6]),
        ("right", [0, 2, 4]),
        ("all", list(range(7))),
        ("?", list(range(7))),
    ):
        made.show(which)
        assert numbers(made) == expected


def test_order_turns_round_and_keeps_up_with_new_ones():
    made = table(4)
    made.order("time")
    made.order("time")
    assert numbers(made) == [3, 2, 1, 0]
    made.add(example(9))
    assert numbers(made) == [9, 3, 2, 1, 0]
    made.order("m")
    assert numbers(made) == [1, 3, 9, 0, 2]
    made.order("nothing")
    assert numbers(made) == [1, 3, 9, 0, 2]
    made.order("#")
    assert numbers(made) == [0, 1, 2, 3, 9]


def test_a_row_opens_and_closes():
    made = table(2)
    made.open("1")
    assert "No model was asked" in made.html()
    made.open("1")
    assert "No model was asked" not in made.html()
    made.open("x")


def test_a_saved_view_repeats_no_shared_prompt_and_cuts_long_ones():
    from dspex_nb.runs.traces import TracedCall

    def call(at):
        return TracedCall(
            "m", ({"role": "system", "content": "Sort them."}, {"role": "user", "content": f"{at} " * 4000}), ("x",)
        )

    info = v.EvaluationInfo("e", [v.MetricInfo("m", 0.5)], [example(at, calls=(call(at),)) for at in range(1, 9, 2)])
    html = v.evaluation_html(info)
    assert html.count(">Sort them.</pre>") == 1
    assert html.count("system: as above") == 2
    assert "8,000 characters in all" in html
    assert len(html) < 60_000
