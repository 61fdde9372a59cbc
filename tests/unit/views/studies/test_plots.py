"""What each plot's info says, and that each chart is a figure plotly takes, JSON, and a picture."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dspex_nb.views.chart_svg import chart_svg
from dspex_nb.views.charts import MOST_POINTS, chart_json, draw, thinned, thinned_note
from dspex_nb.views.studies import PLOTS, choices, comparison_chart, costs, examples, history, minibatches, parallels, trees
from dspex_nb.views.studies import plots as plots_

from .making import example, snapshot, trial

EMPTY = snapshot([])


def test_thinning_keeps_the_edge_of_the_cloud():
    values = np.random.default_rng(0).random(10_000)
    kept = thinned(values)
    assert len(kept) <= MOST_POINTS + 1
    assert {int(np.argmin(values)), int(np.argmax(values)), 9_999} <= set(kept.tolist())
    groups = values.reshape(1000, 10)
    assert set(groups.max(axis=1)) <= set(values[kept])
    assert thinned(values[:50]).tolist() == list(range(50))
    assert thinned_note(2000, 10_000) == "2,000 of 10,000 trials drawn: of every few neighbours the lowest and the highest"
    assert thinned_note(50, 50) == ""


def test_history_is_best_so_far_of_rivals_alone():
    found = history._history_info(
        snapshot(
            [
                trial(0, 0.4, kind="start"),
                trial(1, 0.9, kind="minibatch"),
                trial(2, 0.6),
                trial(3, 0.5),
                trial(4, None, status="running"),
            ]
        )
    )
    assert found.number.tolist() == [0, 1, 2, 3]
    assert found.part.tolist() == [False, True, False, False]
    assert found.best_at.tolist() == [0, 2, 3]
    assert found.best.tolist() == [0.4, 0.6, 0.6]
    assert (found.start, found.total) == (0.4, 4)


def test_a_thinned_history_keeps_the_trials_that_count(large):
    found = history._history_info(large)
    assert found.total == 3000
    assert len(found.number) < 1400
    assert (~found.part).sum() == large.trials.whole.sum() == 300


def test_spending_counts_every_trial_and_names_its_unit():
    rows = [trial(0, 0.4, cost=0.5), trial(1, 0.2, cost=0.25), trial(2, 0.6, cost=0.25)]
    found = history._spending_info(snapshot(rows))
    assert (found.unit, found.spent.tolist(), found.best.tolist()) == ("US dollars", [0.5, 1.0, 1.0], [0.4, 0.6, 0.6])
    unknown = history._spending_info(snapshot([trial(0, 0.4, cost=None), trial(1, 0.5, cost=None)]))
    assert (unknown.unit, unknown.spent.tolist()) == ("tokens", [110.0, 220.0, 220.0])
    assert history._spending_info(snapshot(rows), "trials").spent.tolist() == [1, 3, 3]


def test_cost_marks_what_nothing_cheaper_beats():
    rows = [
        trial(0, 0.4, cost=0.10),
        trial(1, 0.7, cost=0.05, saved_cost=0.15),  # what the cache saved is part of what a candidate costs to use
        trial(2, 0.6, cost=0.30),
        trial(3, 0.9, cost=0.40),
        trial(4, 0.3, cost=0.10),
    ]
    found = costs._cost_info(snapshot(rows))
    assert found.cost.tolist() == pytest.approx([10, 20, 30, 40, 10])
    assert found.number[found.front].tolist() == [0, 1, 3]
    assert found.unit == "US dollars per 1,000 examples"
    assert costs._cost_info(snapshot([trial(0, 0.4, cost=None)])).unit == "tokens per example"


def test_minibatches_meet_the_whole_set_by_program():
    a, b = ({"predictors": {"p": {"instructions": name, "demos": []}}} for name in "ab")
    rows = [
        trial(0, 0.5, kind="minibatch", info=a), trial(1, 0.7, kind="minibatch", info=a), trial(2, 0.9, kind="minibatch", info=b),
        trial(3, 0.55, kind="full", info=a),
    ]  # fmt: skip
    found = minibatches._minibatch_info(snapshot(rows))
    assert (found.number.tolist(), found.part.tolist(), found.whole.tolist()) == ([3], [pytest.approx(0.6)], [0.55])
    assert (found.parts.tolist(), found.only_part) == ([2], 1)
    assert "this optimizer scores whole sets only" in minibatches.minibatch_chart(snapshot([trial(0, 0.5)])).alt


def test_the_heat_map_has_the_hardest_on_top_and_gaps_where_nothing_was_scored():
    scored = [example(0, 0, 1.0), example(0, 1, 0.0), example(1, 0, 1.0), example(1, 2, None, "too slow"), example(2, 2, 1.0)]
    found = examples._examples_info(snapshot([trial(n, 0.5) for n in range(3)], scored))
    assert found.index.tolist() == [1, 2, 0]
    assert found.number.tolist() == [0, 1, 2]
    np.testing.assert_equal(found.matrix, [[0, np.nan, np.nan], [np.nan, 0, 1], [1, 1, np.nan]])
    assert found.failed.tolist() == [[1, 1]]
    assert (found.unsolved, found.examples, found.trials) == (1, 3, 3)


def test_a_large_heat_map_is_means_and_says_so():
    rows = [example(n, i, float(n % 2)) for n in range(1000) for i in range(90)]
    info = examples._examples_info(snapshot([trial(n, 0.5) for n in range(1000)], rows))
    assert info.matrix.shape == (45, 200)
    assert (info.rows_each, info.columns_each) == (2, 5)
    assert set(np.unique(info.matrix).round(1)) == {0.4, 0.6}
    made = examples.examples_chart(snapshot([trial(n, 0.5) for n in range(1000)], rows))
    assert "means of 5 neighbouring trials a column, 2 examples of like difficulty a row" in made.hint


CHOICES = [trial(n, 0.2 + 0.5 * (n % 2) + 0.01 * (n // 2), info={"params": {"0_predictor_instruction": n % 2}}) for n in range(8)]


def test_choices_are_means_with_intervals():
    found = choices._choices_info(snapshot(CHOICES))
    assert found.choice == ("instruction", "instruction")
    assert found.value == ("1", "0")
    assert found.mean.tolist() == pytest.approx([0.715, 0.215])
    scores = np.array([0.70, 0.71, 0.72, 0.73])
    assert found.half[0] == pytest.approx(3.18 * scores.std(ddof=1) / 2)
    assert choices.choice_names(["0_predictor_demos", "1_predictor_instruction", "n"]) == [
        "demo set of predictor 0", "instruction of predictor 1", "n",
    ]  # fmt: skip


def test_importances_say_why_there_are_none():
    assert "makes no choices" in choices._importances_info(snapshot([trial(n, n / 9) for n in range(9)])).why_not
    assert "four scored trials" in choices._importances_info(snapshot(CHOICES[:3])).why_not


def test_importances_are_optunas():
    pytest.importorskip("optuna")
    rows = [trial(n, 0.2 + 0.5 * (n % 2), info={"params": {"matters": n % 2, "does not": (n // 2) % 3}}) for n in range(24)]
    found = choices._importances_info(snapshot(rows))
    assert found.choice[0] == "matters"
    assert found.importance[0] > 0.9
    assert found.trials == 24
    assert found.method in {"fANOVA", "PED-ANOVA"}


def test_without_optuna_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert "pip install 'dspex_nb[optimizers]'" in choices._importances_info(snapshot(CHOICES)).why_not


def test_the_tree_leads_to_the_best():
    rows = [
        trial(0, 0.3, kind="start"),
        trial(1, 0.4, parent=0),
        trial(2, 0.5, parent=0),
        trial(3, 0.9, parent=1),
        trial(4, 0.2, parent=1),
    ]
    found = trees._tree_info(snapshot(rows))
    assert found.parent.tolist() == [-1, 0, 0, 1, 1]
    assert found.generation.tolist() == [0, 1, 1, 2, 2]
    assert found.number[found.on_best].tolist() == [0, 1, 3]
    assert len(set(zip(found.generation.tolist(), found.row.tolist(), strict=True))) == 5, "two nodes meet"
    assert "none has a parent" in trees.candidates_chart(snapshot([trial(0, 0.3), trial(1, 0.4)])).alt


def test_a_large_tree_keeps_the_best_with_all_that_lead_to_them(large):
    found = trees._tree_info(large)
    assert found.total == 3000
    assert len(found.number) <= trees.MOST_NODES
    assert large.trials.number[large.best] in found.number
    known = set(found.number.tolist())
    parents = {int(large.trials.parent[n]) for n in known} - {-1}
    assert parents <= known


def test_parallel_coordinates_show_choices_first_and_the_score_last(large):
    found = parallels._parallel_info(large)
    names = [axis.name for axis in found.axes]
    assert names[:2] == ["instruction", "demo set"]
    assert names[-1] == "exact_match"
    assert found.shown <= parallels.MOST_LINES
    assert large.trials.score[large.best] in found.score


def test_studies_are_compared_on_one_axis():
    one = snapshot([trial(0, 0.4), trial(1, 0.6)], study_id="aaaa1111")
    other = snapshot([trial(0, 0.5)], optimizer="COPRO", study_id="bbbb2222")
    made = comparison_chart([one, other], "calls")
    assert [trace["name"] for trace in made.traces] == ["Triage: GEPA", "Triage: COPRO"]
    assert made.traces[0]["x"].tolist() == [10, 20, 20]
    assert "best: Triage: GEPA, 0.600" in made.alt
    twice = comparison_chart([one, snapshot([trial(0, 0.5)], study_id="aaaacc3333")], "trials")
    assert twice.traces[1]["name"] == "Triage: GEPA (cc3333)"
    mixed = comparison_chart([one, snapshot([trial(0, 0.5)], metric="other")], "calls")
    assert "different metrics" in mixed.hint


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_says_why_it_is_empty(name):
    made = plots_.PLOTS[name].chart(EMPTY)
    assert made.empty
    assert made.empty in made.alt
    ET.fromstring(chart_svg(made.traces, made.layout))  # noqa: S314 - our own picture


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_small_has_words_and_is_drawn_everywhere(name, large):
    if name == "importances":
        pytest.importorskip("optuna")
    made = PLOTS[name].chart(large)
    assert not made.empty
    assert len(made.alt) > 20
    assert name == "parallel" or made.layout["xaxis"]["title"]["text"]
    told = json.loads(chart_json(name, made))
    assert told["name"] == name
    assert len(chart_json(name, made)) < 200_000
    figure = draw(made)
    assert len(figure.data) == len(told["data"])
    svg = chart_svg(made.traces, made.layout)
    assert len(svg) < 60_000
    ET.fromstring(svg)  # noqa: S314 - our own picture
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.plotly.v1+json", "text/html", "text/plain"}
    assert bundle["text/plain"] == made.alt
    assert "data:image/svg+xml;base64," in bundle["text/html"]


def test_the_still_picture_shows_what_its_owner_changed():
    figure = history.plot_history(snapshot([trial(0, 0.4), trial(1, 0.6)]))
    figure.update_layout(title_text="Mine")
    drawn = figure.to_plotly_json()
    assert ">Mine<" in chart_svg(drawn["data"], drawn["layout"])
