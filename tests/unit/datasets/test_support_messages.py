"""The shipped support messages keep what their README promises."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from importlib.resources import files

import pytest

TEXT = files("dspex_nb.datasets").joinpath("support_messages.jsonl").read_text(encoding="utf-8")
README = files("dspex_nb.datasets").joinpath("README.md").read_text(encoding="utf-8")
ROWS = [json.loads(line) for line in TEXT.splitlines()]
SPLITS = {"train": 72, "val": 40, "test": 72}
DESKS = {"payment", "problem", "purchase"}


def words(message: str) -> list[str]:
    return re.findall(r"[\w'-]+", message.lower())


def overlap(one: str, other: str) -> float:
    """Share of the shorter message's distinct words that the other one also has."""
    a, b = set(words(one)), set(words(other))
    return len(a & b) / min(len(a), len(b))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_every_row_has_the_fields_and_values_of_the_guide(row):
    assert list(row) == ["id", "message", "desk", "urgency", "split", "hard", "ambiguous"]
    assert row["desk"] in DESKS
    assert type(row["urgency"]) is int
    assert 1 <= row["urgency"] <= 5
    assert row["split"] in SPLITS
    assert type(row["hard"]) is bool
    assert type(row["ambiguous"]) is bool
    assert not (row["hard"] and row["ambiguous"])
    assert row["message"] == row["message"].strip()
    assert 5 <= len(row["message"].split()) <= 60


def test_ids_count_up_without_gaps():
    assert [row["id"] for row in ROWS] == [f"m{number:03d}" for number in range(1, len(ROWS) + 1)]
    assert len(ROWS) >= 180


def test_splits_have_their_fixed_sizes_and_every_desk_in_equal_parts():
    assert Counter(row["split"] for row in ROWS) == SPLITS
    for split, size in SPLITS.items():
        desks = Counter(row["desk"] for row in ROWS if row["split"] == split)
        assert set(desks) == DESKS
        assert max(desks.values()) - min(desks.values()) <= 1, (split, desks)
        assert sum(desks.values()) == size


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_holds_all_urgencies_and_its_share_of_difficult_messages(split):
    rows = [row for row in ROWS if row["split"] == split]
    assert {row["urgency"] for row in rows} == {1, 2, 3, 4, 5}
    assert 0.15 <= sum(row["hard"] for row in rows) / len(rows) <= 0.25
    assert 0.05 <= sum(row["ambiguous"] for row in rows) / len(rows) <= 0.11


@pytest.mark.parametrize("desk", sorted(DESKS))
def test_urgency_does_not_give_the_desk_away(desk):
    assert {row["urgency"] for row in ROWS if row["desk"] == desk} == {1, 2, 3, 4, 5}


def test_no_two_messages_share_more_than_sixty_percent_of_their_words():
    close = [
        (one["id"], other["id"])
        for one, other in itertools.combinations(ROWS, 2)
        if overlap(one["message"], other["message"]) > 0.6
    ]
    assert close == []


def test_the_overlap_measure_catches_a_template():
    assert overlap("please refund my invoice from May", "please refund my receipt from June") > 0.6


def test_the_readme_states_the_counts_of_the_data():
    for split in SPLITS:
        rows = [row for row in ROWS if row["split"] == split]
        desks, urgencies = Counter(row["desk"] for row in rows), Counter(row["urgency"] for row in rows)
        cells = [
            split,
            " / ".join(str(desks[desk]) for desk in ("payment", "problem", "purchase")),
            " / ".join(str(urgencies[level]) for level in range(1, 6)),
            str(sum(row["hard"] for row in rows)),
            str(sum(row["ambiguous"] for row in rows)),
        ]
        assert f"| {' | '.join(cells)} |" in README
    lengths = [len(row["message"].split()) for row in ROWS]
    assert f"{min(lengths)} to {max(lengths)} words" in README
    assert f"({sum(row['hard'] for row in ROWS)} messages)" in README
    assert f"({sum(row['ambiguous'] for row in ROWS)} messages)" in README
