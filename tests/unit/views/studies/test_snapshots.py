"""Rows in, columns out."""

import numpy as np

from dspex_nb.views.studies import StudyColumns, StudyFacts

from .making import example, snapshot, trial


def test_trials_lie_in_order_of_their_numbers_however_they_came():
    found = snapshot([trial(2, 0.3), trial(0, 0.1), trial(1, 0.2)])
    assert found.trials.number.tolist() == [0, 1, 2]
    assert found.trials.score.tolist() == [0.1, 0.2, 0.3]
    assert found.trials.label.tolist() == ["tried 0", "tried 1", "tried 2"]


def test_a_row_that_comes_again_replaces_what_was_known():
    columns = StudyColumns()
    columns.take_trials([trial(0, None, status="running")])
    running = columns.snapshot(StudyFacts(status="running"))
    columns.take_trials([trial(0, 0.5), trial(1, 0.4)])
    ended = columns.snapshot(StudyFacts(status="running"))
    assert running.trials.status.tolist() == ["running"]
    assert running.best is None
    assert ended.trials.status.tolist() == ["done", "done"]
    assert ended.best == 0


def test_what_still_ran_when_the_study_ended_is_cancelled():
    found = snapshot([trial(0, 0.5), trial(1, None, status="running")], status="stopped")
    assert found.trials.status.tolist() == ["done", "cancelled"]
    assert found.done == 1


def test_a_score_on_a_part_is_no_rival_while_there_are_others():
    parts = [trial(0, 0.4, kind="start"), trial(1, 0.9, kind="minibatch"), trial(2, 0.6), trial(3, 0.6)]
    found = snapshot(parts)
    assert found.best == 2  # the earliest of equals
    assert found.start == 0.4
    assert snapshot(parts[1:2]).best == 0


def test_the_same_program_is_known_again():
    same = {"predictors": {"p": {"instructions": "Do.", "demos": []}}}
    found = snapshot([trial(0, 0.4, info=same), trial(1, 0.5), trial(2, 0.6, info=same)])
    assert found.trials.candidate[0] == found.trials.candidate[2] != found.trials.candidate[1]
    assert found.trials.words.tolist() == [3, 5, 3]


def test_what_is_unknown_is_not_a_number_and_not_zero():
    found = snapshot([trial(0, None, status="running", cost=None, saved_cost=None)])
    assert np.isnan([found.trials.score[0], found.trials.cost[0], found.trials.saved[0]]).all()


def test_columns_grow_and_keep_choices_that_came_late():
    columns = StudyColumns()
    columns.take_trials([trial(n, n / 1000) for n in range(700)])
    columns.take_trials([trial(n, n / 1000, info={"params": {"temperature": n}}) for n in range(700, 900)])
    columns.take_examples([example(0, 0, 1.0), example(0, 1, None, "it failed")])
    found = columns.snapshot(StudyFacts())
    assert len(found.trials) == 900
    assert found.trials.score[699] == 0.699
    assert found.params["temperature"][10] is None
    assert found.params["temperature"][750] == 750
    assert found.examples.failed.tolist() == [False, True]
