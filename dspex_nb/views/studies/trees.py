"""The tree of candidates: who was made from whom, and the line that leads to the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import SCORE_SCALE, Chart, chart, draw, labels, nothing
from dspex_nb.views.formats import plural, score_text
from dspex_nb.views.markup import GREEN, GREY
from dspex_nb.views.studies.snapshots import Counts, Numbers, StudySnapshot, Texts

TITLE = "Candidates, and what each was made from"
MOST_NODES = 160
_NAMED = 40


@dataclass(frozen=True, slots=True)
class TreeInfo:
    """Candidates as nodes; columns of equal length, parents before their children.

    Attributes:
        number: The trial; `parent` the position of its parent in these columns, -1 for a root.
        generation: Parents above it; `row` its place among the leaves, so that no two nodes meet.
        on_best: Whether it is the best or leads to it.
        shown: Nodes drawn, the best and all that lead to them; `total` how many there are.
    """

    number: Counts
    parent: Counts
    generation: Counts
    row: Numbers
    score: Numbers
    label: Texts
    on_best: Any
    total: int
    childless: int


def _tree_info(snapshot: StudySnapshot) -> TreeInfo:
    trials = snapshot.trials
    count = len(trials)
    at = {number: i for i, number in enumerate(trials.number.tolist())}
    parent = np.array([at.get(number, -1) for number in trials.parent.tolist()], int)
    parent[parent >= np.arange(count)] = -1  # a parent comes before its child; anything else is no tree
    scored = np.flatnonzero(trials.scored)
    best = snapshot.best
    order = scored[np.argsort(-(trials.score + np.where(snapshot.rivals, 1.0, 0.0))[scored], kind="stable")]
    kept: set[int] = set()
    for node in order.tolist():
        line = []
        up = node
        while up >= 0 and up not in kept:
            line.append(up)
            up = int(parent[up])
        if kept and len(kept) + len(line) > MOST_NODES:
            break
        kept.update(line)
    shown = np.array(sorted(kept), int)
    place = np.full(count + 1, -1)
    place[shown] = np.arange(len(shown))
    above = place[parent[shown]]
    on_best = np.zeros(count, bool)
    up = best if best is not None else -1
    while up >= 0:
        on_best[up] = True
        up = int(parent[up])
    generation = np.zeros(len(shown), int)
    for i, one in enumerate(above.tolist()):
        generation[i] = generation[one] + 1 if one >= 0 else 0
    return TreeInfo(
        trials.number[shown],
        above,
        generation,
        _rows(above, trials.score[shown]),
        trials.score[shown],
        trials.label[shown],
        on_best[shown],
        len(scored),
        int((trials.parent < 0).sum()),
    )


def _rows(parent: Counts, score: Numbers) -> Numbers:
    """Place leaves one below the other, best families first, and every parent amid its children."""
    children: dict[int, list[int]] = {}
    for node, above in enumerate(parent.tolist()):
        children.setdefault(above, []).append(node)
    best = np.nan_to_num(score, nan=-1.0)
    for node in range(len(parent) - 1, -1, -1):
        if parent[node] >= 0:
            best[parent[node]] = max(best[parent[node]], best[node])
    rows = np.zeros(len(parent))
    following = 0.0
    stack = [(node, False) for node in sorted(children.get(-1, ()), key=lambda n: best[n])]
    while stack:
        node, placed = stack.pop()
        below = children.get(node)
        if placed and below:
            rows[node] = (rows[below].min() + rows[below].max()) / 2
        elif below:
            stack.append((node, True))
            stack += [(child, False) for child in sorted(below, key=lambda n: best[n])]
        else:
            rows[node] = following
            following += 1.0
    return rows


def candidates_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of the tree of candidates."""
    info = _tree_info(snapshot)
    if not info.total:
        return nothing(TITLE, "no trial has been scored yet")
    if not (info.parent >= 0).any():
        return nothing(TITLE, "this optimizer makes each candidate anew: none has a parent")
    traces: list[dict[str, Any]] = []
    for chosen, color, width, name in ((False, GREY, 1.2, ""), (True, GREEN, 3, "leads to the best")):
        x, y = _edges(info, on_best=chosen)
        if x:
            line = {"color": color, "width": width}
            trace = {
                "type": "scatter",
                "mode": "lines",
                "x": x,
                "y": y,
                "line": line,
                "hoverinfo": "skip",
                "opacity": 1 if chosen else 0.55,
            }
            traces.append({**trace, "name": name, "showlegend": bool(name)})
    few = len(info.number) <= _NAMED
    hover = [
        [int(number), text, score_text(float(score))]
        for number, text, score in zip(info.number.tolist(), labels(info.label.tolist()), info.score.tolist(), strict=True)
    ]
    traces.append(
        {
            "type": "scatter", "mode": "markers+text" if few else "markers", "x": info.generation, "y": info.row,
            "customdata": hover,
            "text": [str(number) if few else "" for number in info.number.tolist()],
            "textposition": "middle right", "textfont": {"size": 10},
            "marker": {
                "size": np.where(info.on_best, 14, 10 if few else 8), "color": info.score, "colorscale": SCORE_SCALE,
                "line": {"width": np.where(info.on_best, 2, 0), "color": GREEN},
                "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9, "tickformat": ".2f", "x": 1.01},
            },
            "hovertemplate": "trial %{customdata[0]}: %{customdata[2]}<br>%{customdata[1]}<extra></extra>", "showlegend": False,
        }
    )  # fmt: skip
    leads = info.number[info.on_best].tolist()
    deepest = int(info.generation.max()) + 1
    way = ", ".join(map(str, leads))
    alt = f"{plural(info.total, 'candidate')} in {plural(deepest, 'generation')}; the best came by trials {way}."
    hint = (
        f"the best {len(info.number)} of {info.total:,} and all that lead to them"
        if len(info.number) < info.total
        else "colour: score"
    )
    height = int(np.clip(130 + (16 if few else 11) * (info.row.max() + 1), 260, 760))
    across = {"title": "generation", "dtick": max(deepest // 12, 1), "range": [-0.4, deepest - 0.6], "showgrid": False}
    down = {"visible": False, "range": [float(info.row.max()) + 0.8, -0.8]}
    return chart(TITLE, traces, alt=alt, hint=hint, x=across, y=down, height=height)


def _edges(info: TreeInfo, *, on_best: bool) -> tuple[list[Any], list[Any]]:
    x: list[Any] = []
    y: list[Any] = []
    for node, above in enumerate(info.parent.tolist()):
        if above >= 0 and bool(info.on_best[node]) == on_best:
            x += [int(info.generation[above]), int(info.generation[node]), None]
            y += [float(info.row[above]), float(info.row[node]), None]
    return x, y


def plot_candidates(snapshot: StudySnapshot) -> Any:
    """Return a figure of the tree of candidates, with the line that leads to the best."""
    return draw(candidates_chart(snapshot))
