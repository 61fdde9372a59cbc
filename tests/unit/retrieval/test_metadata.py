"""Metadata as text comes back as it was, whatever orjson makes of it."""

from __future__ import annotations

import json
import math

import pytest

from dspex_nb.retrieval.metadata import metadata_of, metadata_text, parted, with_metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"title": "Über „if“", "page": 3, "draft": False, "note": None, "score": 0.1, "low": -0.0},
        {"number": 2**63 - 1, "large": 2**64 + 1},
        {"larger": -(10**30)},
        {"tags": ["a", 2**70, {"deep": [1.5, True]}]},
        {"half": "\ud83d"},
        {"control": "\x1e\x00\n", "quotes": '"\\'},
    ],
)
def test_it_comes_back(metadata):
    found = metadata_of(metadata_text(metadata))
    assert found == metadata
    assert [type(one) for one in found.values()] == [type(one) for one in metadata.values()]
    assert json.loads(metadata_text(metadata)) == metadata  # any reader of JSON can have it


def test_not_a_number_in_a_list_stays():
    (found,) = metadata_of(metadata_text({"values": [math.nan]}))["values"]
    assert math.isnan(found)


@pytest.mark.parametrize("text", ["", "plain", "with \x1e of its own", "\x1e"])
def test_a_text_is_parted_from_its_metadata(text):
    written = metadata_text({"a": "\x1e"})
    assert parted(with_metadata(text, written)) == (text, written)
