"""The heat map of examples over trials: which examples are never solved, and which a change lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import Chart, chart, draw, nothing
from dspex_nb.views.formats import plural
from dspex_nb.views.markup import RED
from dspex_nb.views.studies.snapshots import Counts, Numbers, StudySnapshot

TITLE = "Score of each example in each trial"
MOST_COLUMNS, MOST_ROWS = 240, 60
HEAT_SCALE = [[0.0, "rgba(148,120,60,0.30)"], [0.5, "rgba(59,130,246,0.55)"], [1.0, "rgba(20,170,105,0.95)"]]
_MARKS = 300  # more of them hide what they mark


@dataclass(frozen=True, slots=True)
class ExamplesInfo:
    """Mean scores: a row an example or several of like difficulty, a column a trial or several neighbours.

    Attributes:
        matrix: Rows from the hardest to the easiest; NaN where nothing was scored.
        failed: Cells in which scoring ended in an error, as row and column.
        index: The first example of each row, `rows_each` examples a row; `number` and `columns_each` likewise of trials.
        unsolved: Examples that no trial scored above 0.
        examples: How many there are; `trials` likewise.
    """

    matrix: Numbers
    failed: Counts
    index: Counts
    number: Counts
    rows_each: int
    columns_each: int
    unsolved: int
    examples: int
    trials: int


def _examples_info(snapshot: StudySnapshot) -> ExamplesInfo:
    rows = snapshot.examples
    seen = rows.index >= 0
    trial, index, score = rows.trial[seen], rows.index[seen], np.nan_to_num(rows.score[seen])
    failed = rows.failed[seen]
    if not len(trial):
        return ExamplesInfo(np.zeros((0, 0)), np.zeros((0, 2), int), *(np.zeros(0, int),) * 2, 1, 1, 0, 0, 0)
    most = int(index.max()) + 1
    count, total = np.bincount(index, minlength=most), np.bincount(index, weights=score, minlength=most)
    known = np.flatnonzero(count)
    order = known[np.lexsort((known, total[known] / count[known]))]
    rank = np.zeros(most, int)
    rank[order] = np.arange(len(order))
    numbers = np.flatnonzero(np.bincount(trial))
    place = np.zeros(int(numbers[-1]) + 1, int)
    place[numbers] = np.arange(len(numbers))
    down, across = -(-len(order) // MOST_ROWS), -(-len(numbers) // MOST_COLUMNS)
    cell = (rank[index] // down) * (-(-len(numbers) // across)) + place[trial] // across
    shape = (-(-len(order) // down), -(-len(numbers) // across))
    size = shape[0] * shape[1]
    counted = np.bincount(cell, minlength=size)
    with np.errstate(invalid="ignore"):
        matrix = (np.bincount(cell, weights=score, minlength=size) / counted).reshape(shape)
    broken = np.unique(cell[failed])
    return ExamplesInfo(
        matrix,
        np.stack(np.divmod(broken, shape[1]), axis=1),
        order[::down],
        numbers[::across],
        down,
        across,
        int((total[known] <= 0).sum()),
        len(order),
        len(numbers),
    )


def examples_chart(snapshot: StudySnapshot) -> Chart:
    """Return the heat map of examples over trials."""
    info = _examples_info(snapshot)
    if not info.examples:
        return nothing(TITLE, "no example has been scored yet")
    rows = [f"#{first}" if info.rows_each == 1 else f"#{first} …" for first in info.index.tolist()]
    heat = {
        "type": "heatmap", "z": info.matrix, "x": info.number, "y": rows, "colorscale": HEAT_SCALE, "zmin": 0, "zmax": 1,
        "hoverongaps": False, "xgap": 1 if info.matrix.shape[1] <= 60 else 0, "ygap": 1,  # noqa: PLR2004
        "colorbar": {"thickness": 10, "outlinewidth": 0, "tickformat": ".1f", "len": 0.9, "x": 1.01},
        "hovertemplate": "example %{y}, trial %{x}: %{z:.2f}<extra></extra>",
    }  # fmt: skip
    if info.columns_each == 1:
        heat["meta"] = "trial"  # a click opens it
    traces: list[dict[str, Any]] = [heat]
    if 0 < len(info.failed) <= _MARKS and info.columns_each == info.rows_each == 1:
        marks = info.failed
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": "ended in an error", "x": info.number[marks[:, 1]],
                "y": [rows[row] for row in marks[:, 0]], "marker": {"color": RED, "size": 5, "symbol": "x"},
                "customdata": [[int(n), ""] for n in info.number[marks[:, 1]]],
                "hovertemplate": "example %{y}, trial %{x}: ended in an error<extra></extra>",
            }
        )  # fmt: skip
    alt = f"{plural(info.examples, 'example')} over {plural(info.trials, 'trial')}: {_never(info)}."
    height = int(np.clip(150 + 14 * len(rows), 260, 680))
    y = {"title": "example", "type": "category", "autorange": "reversed", "showgrid": False, "nticks": 24}
    return chart(TITLE, traces, alt=alt, hint=_hint(info), x={"title": "trial", "showgrid": False}, y=y, height=height)


def _hint(info: ExamplesInfo) -> str:
    if info.rows_each == info.columns_each == 1:
        return f"the hardest examples on top; {_never(info)}"
    parts = []
    if info.columns_each > 1:
        parts.append(f"{info.columns_each} neighbouring trials a column")
    if info.rows_each > 1:
        parts.append(f"{info.rows_each} examples of like difficulty a row")
    return f"means of {', '.join(parts)}; the hardest on top; {_never(info)}"


def _never(info: ExamplesInfo) -> str:
    return f"{info.unsolved} of {info.examples} never solved" if info.unsolved else "each was solved at least once"


def plot_examples(snapshot: StudySnapshot) -> Any:
    """Return a heat map of each example's score in each trial, the hardest examples on top."""
    return draw(examples_chart(snapshot))
