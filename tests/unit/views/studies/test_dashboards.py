"""The dashboard: buttons by status, money apart, a trial opened, nothing of a model's as markup, whole in a saved notebook."""

import base64
import re
from dataclasses import replace

import pytest

from dspex_nb.store.rows import CallRow
from dspex_nb.views.markup import static
from dspex_nb.views.studies import PLOTS, CallText, Reading, TrialDetail, dashboard_html, dashboard_still, dashboard_text
from dspex_nb.views.studies.estimates import estimate_to_go
from dspex_nb.views.studies.trial_details import diff_html, trial_detail_html

from ..hostile import BAD, read  # noqa: TID252 - shared by the tests of this room
from .making import example, snapshot, trial

ROWS = [
    trial(
        0,
        0.4,
        kind="start",
        info={"instructions": "Name the desk.", "predictors": {"p": {"instructions": "Name the desk.", "demos": []}}},
    ),
    trial(
        1, 0.6, parent=0, info={"predictors": {"p": {"instructions": "Name the right desk.", "demos": [{"q": "a", "d": "b"}]}}}
    ),
    trial(2, None, status="running", elapsed_s=0.0),
]


def drawn(found, reading=None, detail=None, **more):
    reading = reading or Reading()
    return dashboard_html(found, reading, PLOTS[reading.plot].chart(found), detail, **more)


def acts(html):
    return set(re.findall(r'data-dspex-action="(\w+)"(?! data-dspex-value)', re.sub(r"<input[^>]*>", "", html)))


@pytest.mark.parametrize(
    ("status", "buttons"),
    [
        ("running", {"pause", "stop"}), ("paused", {"resume", "stop", "adopt"}), ("stopping", set()), ("done", {"adopt"}),
        ("stopped", {"adopt"}), ("interrupted", {"adopt"}),
    ],
)  # fmt: skip
def test_buttons_show_only_what_can_be_done(status, buttons):
    assert acts(drawn(snapshot(ROWS, status=status))) == buttons
    if status in ("stopped", "interrupted"):
        assert acts(drawn(snapshot(ROWS, status=status, resumable=True))) == buttons | {"resume"}
    if status == "done":
        assert acts(drawn(snapshot(ROWS, status=status, adoptable=False))) == set()
        assert acts(drawn(snapshot(ROWS[2:], status=status))) == set()


def test_paid_saved_and_unknown_stand_apart():
    text = read(drawn(snapshot(ROWS, paid=0.5, saved=1.25, unpriced=3, budget="$2.00")))
    for words in ("paid $0.50", "budget $2.00", "saved $1.25 by the cache", "price unknown of 3 calls"):
        assert words in text
    assert "paid unknown" in read(drawn(snapshot(ROWS, unpriced=3)))
    assert "paid free" in read(drawn(snapshot(ROWS)))


def test_what_is_to_go_is_told_from_the_last_trials():
    found = snapshot(ROWS, total=12, done_rows=5, total_rows=10)
    ahead = estimate_to_go(found)
    assert ahead.seconds == pytest.approx(2.0 * 9.5)
    assert ahead.cost == pytest.approx(0.01 * 9.5)
    text = read(drawn(found))
    assert "about 19.0 s to go" in text
    assert "example 5/10" in text
    assert estimate_to_go(snapshot(ROWS)).seconds is None
    assert "the optimizer decides as it goes" in read(drawn(snapshot(ROWS)))
    assert estimate_to_go(snapshot(ROWS, total=12, status="done")).seconds is None
    bound = snapshot(ROWS, expected_calls=200, calls=60, cache_hits=40, elapsed_s=30.0, paid=0.5)
    assert "up to 30.0 s to go" in read(drawn(bound))
    assert "up to $0.50 to go" in read(drawn(bound))


def test_the_chosen_plot_has_its_place_and_its_words():
    html = drawn(snapshot(ROWS), Reading(plot="candidates"))
    assert 'data-dspex-figure="candidates"' in html
    assert "2 candidates in 2 generations" in html
    assert "data:image/svg+xml" not in html
    still = drawn(snapshot(ROWS), Reading(plot="candidates"), still=True)
    assert "data-dspex-figure" not in still
    assert "data:image/svg+xml;base64," in still


def detail(**more):
    calls = [
        CallRow(7, 1, 0, "k", "m", "p", None, 10, 5, 0.01, None, 0.5, None),
        CallRow(8, 1, 1, "l", "m", "p", "disk", 10, 5, 0.0, 0.02, 0.0, None),
        CallRow(9, 1, 2, "", "m", "p", None, 0, 0, None, None, 9.0, "LMTimeoutError: no answer"),
    ]
    scored = [example(1, 0, 1.0), example(1, 1, 0.0), example(1, 2, None, "no answer within 9 s")]
    made = TrialDetail(ROWS[1], ROWS[0], "parent", scored, {1: {"q": "why"}}, calls, 40)
    return replace(made, **more)


def test_an_opened_trial_shows_what_changed_what_failed_and_what_was_asked():
    text = read(trial_detail_html(detail()))
    for words in (
        "Instructions p against the parent, trial 0", "+ added", "of 3 examples 1 ended in an error, 1 scored 0", "no answer within 9 s",
        "q: why", "40 calls: click one to read it", "cached (disk), saved $0.02", "LMTimeoutError: no answer", "first 3 of 40",
    ):  # fmt: skip
        assert words in text, words
    html = trial_detail_html(detail())
    assert re.search(r"<ins[^>]*>right </ins>|<ins[^>]*> right</ins>", html)
    assert "<del" not in html


def test_a_calls_text_is_read_or_said_to_be_gone():
    there = detail(
        opened=7,
        text=CallText([{"role": "user", "content": "Ask <b>"}, {"role": "user", "content": [{"text": "part"}]}], ["told"]),
    )
    text = read(trial_detail_html(there))
    for words in ("Ask <b>", "part", "told", "example 0, m"):
        assert words in text
    assert "gone from the cache, or never kept there" in read(trial_detail_html(detail(opened=8)))
    assert "The prompt was not kept with the answer." in read(trial_detail_html(detail(opened=8, text=CallText(None, ["told"]))))
    assert "it failed: there is no answer" in read(trial_detail_html(detail(opened=9)))


def test_a_diff_keeps_every_word_of_both():
    before, after = "Read the mail.\nName one desk.", "Read the message.\nName the one right desk."
    html = diff_html(before, after)
    kept = re.sub(r"<ins[^>]*>.*?</ins>", "", html, flags=re.DOTALL)
    added = re.sub(r"<del[^>]*>.*?</del>", "", html, flags=re.DOTALL)
    assert read(kept) == before
    assert read(added) == after
    assert "unchanged" in read(diff_html(after, after))
    long = "word " * 4000
    assert read(re.sub(r"<del[^>]*>.*?</del>", "", diff_html(long, long + "\nmore"), flags=re.DOTALL)) == long + "\nmore"


def test_an_opened_trial_stands_under_its_row_or_where_its_row_is_on_no_page():
    found = snapshot([trial(n, 0.5) for n in range(40)])
    opened = drawn(found, Reading(trial=39), detail())
    assert opened.index("▾ 39") < opened.index("Instructions") < opened.index("▸ 38")
    elsewhere = drawn(found, Reading(trial=1), detail())
    assert "Trial 1: 0.600" in elsewhere
    assert "close" in elsewhere


def test_ten_thousand_trials_are_one_page(large):
    html = drawn(large)
    assert html.count("<tr") == 13
    assert "page 1 of 250" in html
    assert len(html) < 60_000


def test_a_saved_notebook_has_every_plot_the_best_trials_and_nothing_to_press(large):
    html = dashboard_still(large, {int(large.trials.number[large.best]): detail()})
    assert static(html) == html
    assert not re.search(r"<(button|input|script|style|svg)\b", html)
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert len(pictures) == len(PLOTS) - 1  # importances take too long for a view that is saved again and again
    assert all(base64.b64decode(picture).startswith(b"<svg") for picture in pictures)
    assert "the 25 best of 3,000" in html
    assert "against the parent" in html
    assert len(html) < 700_000


def test_as_text():
    text = dashboard_text(snapshot(ROWS, calls=3, paid=0.5, saved=0.25, note="adopted"))
    for words in (
        "study of Triage with GEPA: running, 2/? trials",
        "best 0.600 (trial 1), start 0.400",
        "paid $0.50, saved $0.25",
        "tried 1",
        "adopted",
    ):
        assert words in text
    assert "no trial has been scored yet" in dashboard_text(snapshot([]))


def test_hostile_text_stays_text_in_every_plot_and_detail():
    info = {"label": BAD, "predictors": {BAD: {"instructions": BAD, "demos": [{BAD: BAD}, BAD]}}, "params": {BAD: BAD, "x": 1}}
    rows = [
        trial(0, 0.4, kind=BAD, info=info),
        trial(1, 0.6, kind="minibatch", parent=0, status=BAD, info={**info, "params": {BAD: "2", "x": BAD}}),
    ]
    found = snapshot(
        rows,
        [example(0, 0, None, BAD), example(1, 0, 1.0)],
        name=BAD,
        optimizer=BAD,
        metric=BAD,
        error=BAD,
        note=BAD,
        options={BAD: BAD},
    )
    call = CallRow(7, 1, 0, BAD, BAD, BAD, BAD, 1, 1, None, None, 0.1, BAD)
    text = CallText([{"role": BAD, "content": BAD}], [BAD])
    opened = TrialDetail(
        rows[1], rows[0], "parent", [example(1, 0, 0.0, BAD), example(1, 1, 0.0)], {0: {BAD: BAD}}, [call], 1, 7, text
    )
    for name in PLOTS:
        read(drawn(found, Reading(plot=name, query=BAD), opened))
        html = drawn(found, Reading(plot=name, trial=1), opened, still=True)
        assert "<script>alert(1)</script>" in read(html)
        html.encode("utf-8")
    read(dashboard_still(found, {1: opened}))
    dashboard_text(found).encode("utf-8", "replace")
