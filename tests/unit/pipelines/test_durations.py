"""Durations read and written."""

from __future__ import annotations

import pytest

from dspex_nb.pipelines.durations import read_duration, write_duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(3600, "1h"), (90, "90s"), (5400.0, "90m"), (86400, "1d"), (0.5, "0.5s"), (1.5, "1.5s")]
)
def test_what_is_written_is_short_and_reads_back(seconds, text):
    assert write_duration(seconds) == text
    assert read_duration(text) == seconds
