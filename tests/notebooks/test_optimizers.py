"""Eight optimizers on the embedded model in a real kernel: each study ends, and the table holds what was measured."""

from __future__ import annotations

import json

import pytest
from notebook_cells import assert_ran, code_cells

pytestmark = [pytest.mark.notebook, pytest.mark.model, pytest.mark.services, pytest.mark.timeout(1800)]
NOTEBOOK, LAST = "05_optimizers.ipynb", "print(table.reset_index().to_json(orient='records'))"


def test_every_cell_ran_without_an_error(executed):
    assert_ran(executed)


def test_the_table_has_eight_optimizers_that_ran_to_their_end(executed):
    rows = json.loads(code_cells(executed)[-1].outputs[-1].text)
    assert len(rows) == 8
    for row in rows:
        assert row["status"] == "done", row
        assert row["calls"] + row["from cache"] > 0
        assert row["val best"] >= row["val before"]
        assert 0 <= row["test after"] <= 1
