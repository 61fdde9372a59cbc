from __future__ import annotations

import pytest

from dspex_nb import views as v


@pytest.mark.parametrize(
    ("info", "saved"),
    [
        (v.CacheInfo(hits_memory=2, saved_cost=0.5, saved_tokens=24), "$0.50; 24 tokens"),
        (v.CacheInfo(hits_memory=3, saved_cost=0.5, unpriced_hits=1), "$0.50, and 1 hit of unknown price"),
        (v.CacheInfo(hits_disk=3, saved_cost=0.0, unpriced_hits=3, saved_tokens=9), "unknown; 9 tokens"),
        (v.CacheInfo(hits_disk=3, saved_cost=0.0), "nothing to pay"),
    ],
)
def test_money_saved_is_said_and_what_is_unknown_stays_unknown(info, saved):
    line = next(line for line in v.cache_text(info).splitlines() if line.startswith("saved"))
    assert line.split(None, 1)[1] == saved
    assert saved in v.cache_html(info)
    assert "$0.00" not in v.cache_html(info)


def test_the_table_has_a_row_for_each_tier():
    info = v.CacheInfo(30, 10, 60, 45, 812_331, 1 << 30, "/somewhere", 40, faults=2)
    text = v.cache_text(info).splitlines()
    assert text[0] == "cache"
    rows = {line.split("  ")[0]: line.split() for line in text[3:6]}
    assert rows["memory"][1:] == ["30", "30%", "40"]
    assert rows["disk"][1:4] == ["10", "10%", "45"]
    assert rows["neither"][1:] == ["60", "60%"]
    assert any(line.startswith("faults") for line in text)
    assert "/somewhere" in text[6]
    assert "saved" not in v.cache_text(v.CacheInfo(misses=3))
    assert "off" in v.cache_text(v.CacheInfo(misses=3))
