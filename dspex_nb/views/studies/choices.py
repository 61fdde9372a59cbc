"""Which choices matter: mean scores by instruction and by set of demos, and optuna's importance of each choice."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dspex_nb.views.charts import Chart, chart, draw, labels, nothing
from dspex_nb.views.formats import one_line, plural, value_text
from dspex_nb.views.markup import BLUE, VIOLET
from dspex_nb.views.studies.snapshots import Counts, Numbers, StudySnapshot, Texts

TITLE = "Mean score by choice"
IMPORTANCES = "How much each choice matters"
_MIPRO = re.compile(r"^(\d+)_predictor_(instruction|demos)$")
_MOST = 24
_TRIALS = 300
_T95 = (12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14, 2.13)


def choice_names(names: Iterable[str]) -> list[str]:
    """Return what an optimizer calls its choices in words: `0_predictor_instruction` is `instruction of predictor 0`.

    Where there is one predictor, it is left out: `instruction`, `demo set`.
    """
    known = [(name, _MIPRO.match(name)) for name in names]
    one = len({found[1] for _, found in known if found}) <= 1
    words = {"instruction": "instruction", "demos": "demo set"}
    return [
        one_line(name, 28) if found is None else words[found[2]] + ("" if one else f" of predictor {found[1]}")
        for name, found in known
    ]


def value_order(value: Any) -> tuple[bool, float, str]:
    """Return what sorts a choice's values: numbers as numbers, then words."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, "" if number else str(value))


@dataclass(frozen=True, slots=True)
class ChoicesInfo:
    """One entry a value that was chosen, best first within each choice; columns of equal length.

    Attributes:
        choice: The choice, `value` what was chosen, `trials` how often.
        mean: Mean score of those trials; `half` half its 95% confidence interval, NaN for one trial.
        total: Values there are; the best of each choice are kept where they are too many.
    """

    metric: str
    choice: tuple[str, ...]
    value: tuple[str, ...]
    trials: Counts
    mean: Numbers
    half: Numbers
    total: int


def _choices_info(snapshot: StudySnapshot) -> ChoicesInfo:
    trials = snapshot.trials
    columns = dict(snapshot.params) or {"candidate": trials.label}
    found: list[tuple[str, str, int, float, float]] = []
    total = 0
    each = max(_MOST // max(len(columns), 1), 4)
    for name, column in zip(choice_names(columns), columns.values(), strict=True):
        # Trials on a part count too: MIPROv2 tries most of its choices on parts alone.
        values = _by_value(column[trials.scored], trials.score[trials.scored])
        total += len(values)
        found += [(name, *value) for value in values[:each]]
    choice, value, count, mean, half = zip(*found, strict=True) if found else ((),) * 5
    metric = snapshot.facts.metric or "score"
    return ChoicesInfo(metric, choice, value, np.array(count, int), np.array(mean, float), np.array(half, float), total)


def _by_value(column: Texts, score: Numbers) -> list[tuple[str, int, float, float]]:
    groups: dict[str, list[float]] = {}
    for value, got in zip(column.tolist(), score.tolist(), strict=True):
        if value is not None:
            groups.setdefault(value if type(value) is str else value_text(value), []).append(got)
    rows = [(value, len(got), float(np.mean(got)), _half(np.array(got))) for value, got in groups.items()]
    return sorted(rows, key=lambda row: -row[2])


def _half(scores: Numbers) -> float:
    """Return half of the mean's 95% confidence interval, by Student's t."""
    if len(scores) < 2:  # noqa: PLR2004 - one score has no spread
        return float("nan")
    factor = _T95[len(scores) - 2] if len(scores) - 2 < len(_T95) else 1.96 + 2.6 / len(scores)
    return float(factor * scores.std(ddof=1) / np.sqrt(len(scores)))


def choices_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of mean scores by what was chosen."""
    info = _choices_info(snapshot)
    if len(info.mean) < 2:  # noqa: PLR2004 - one value compares nothing
        return nothing(TITLE, "it needs two scored candidates")
    names = _row_names(info)
    dots = {
        "type": "scatter", "mode": "markers", "x": info.mean, "y": names, "marker": {"color": BLUE, "size": 11},
        "error_x": {"type": "data", "array": info.half, "color": "#8a929c", "thickness": 1.5, "width": 4},
        "customdata": [[None, count] for count in info.trials.tolist()],
        "hovertemplate": "%{y}: mean %{x:.3f} of %{customdata[1]} trial(s)<extra></extra>", "showlegend": False,
    }  # fmt: skip
    best: dict[str, str] = {}
    for choice, value in zip(info.choice, info.value, strict=True):
        best.setdefault(choice, value)
    alt = "Best on average: " + "; ".join(f"{choice} {one_line(value, 40)}" for choice, value in best.items()) + "."
    left_out = info.total - len(info.mean)
    hint = f"{left_out} values with lower means are left out; " if left_out else ""
    low = float(np.nanmin(info.mean - np.nan_to_num(info.half)))
    high = float(np.nanmax(info.mean + np.nan_to_num(info.half)))
    room = max((high - low) * 0.1, 0.01)
    span = [max(low - room, min(low, 0.0)), min(high + room, 1.02) if high <= 1 else high + room]
    x = {"title": f"mean {info.metric}, with its 95% interval", "range": span, "tickformat": ".2f"}
    y = {"type": "category", "autorange": "reversed"}
    height = int(np.clip(130 + 24 * len(names), 240, 720))
    return chart(TITLE, [dots], alt=alt, hint=f"{hint}overlapping intervals: no difference shown", x=x, y=y, height=height)


def _row_names(info: ChoicesInfo) -> list[str]:
    """Return one name a row, each once: plotly and the still picture take rows of one name for one."""
    names = [f"{choice} {one_line(value, 34)}" for choice, value in zip(info.choice, info.value, strict=True)]
    short = labels([name.removeprefix("candidate ") for name in names], 52)
    return [name if short.index(name) == i else f"{name} ({i})" for i, name in enumerate(short)]


def plot_choices(snapshot: StudySnapshot) -> Any:
    """Return a figure of mean scores by instruction and set of demos, with 95% intervals."""
    return draw(choices_chart(snapshot))


@dataclass(frozen=True, slots=True)
class ImportancesInfo:
    """Shares of the scores' spread that each choice explains, together 1.

    Attributes:
        method: Optuna's evaluator; `trials` how many it was given.
        why_not: Why there are none, empty where there are.
    """

    choice: tuple[str, ...]
    importance: Numbers
    method: str = ""
    trials: int = 0
    why_not: str = ""


def _importances_info(snapshot: StudySnapshot) -> ImportancesInfo:
    trials = snapshot.trials
    rows = np.flatnonzero(trials.scored)
    varied = {
        name: column for name, column in snapshot.params.items() if len({v for v in column[rows].tolist() if v is not None}) > 1
    }
    if not varied:
        why = (
            "this optimizer makes no choices among given values" if not snapshot.params else "nothing was chosen in two ways yet"
        )
        return _no_importances(f"{why}: see the mean scores by candidate instead")
    if len(rows) < 4 or np.ptp(trials.score[rows]) == 0:  # noqa: PLR2004 - fewer explain nothing
        return _no_importances("it needs four scored trials whose scores differ")
    if len(rows) > _TRIALS:
        rows = rows[np.linspace(0, len(rows) - 1, _TRIALS).astype(int)]
    try:
        return _asked(varied, rows, trials.score)
    except ImportError:
        return _no_importances("optuna is not installed: pip install 'dspex_nb[optimizers]'")


def _no_importances(why: str) -> ImportancesInfo:
    return ImportancesInfo((), np.zeros(0), why_not=why)


def _asked(varied: dict[str, Texts], rows: Counts, score: Numbers) -> ImportancesInfo:
    """Ask optuna: PED-ANOVA needs nothing else installed; fANOVA, its default, needs scikit-learn."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds: dict[str, Any] = {}
    for name, column in varied.items():
        values = sorted({value_text(value) for value in column[rows].tolist() if value is not None})
        kinds[name] = optuna.distributions.CategoricalDistribution(values)
    study = optuna.create_study(direction="maximize")
    for row in rows.tolist():
        params = {name: value_text(column[row]) for name, column in varied.items() if column[row] is not None}
        if len(params) == len(varied):
            made = optuna.trial.create_trial(params=params, distributions=kinds, value=float(score[row]))
            study.add_trial(made)
    trees = importlib.util.find_spec("sklearn") is not None
    method = "fANOVA" if trees else "PED-ANOVA"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna calls what it has had for years experimental
        evaluator: Any = (
            optuna.importance.FanovaImportanceEvaluator(seed=0, n_trees=32)
            if trees
            else optuna.importance.PedAnovaImportanceEvaluator()
        )
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return ImportancesInfo(
        tuple(choice_names(name for name, _ in ordered)), np.array([share for _, share in ordered]), method, len(study.trials)
    )


def importances_chart(snapshot: StudySnapshot) -> Chart:
    """Return the chart of optuna's importances, or why there are none."""
    return importances_drawn(_importances_info(snapshot))


def importances_drawn(info: ImportancesInfo) -> Chart:
    """Return the chart of importances that were found before."""
    if info.why_not or not len(info.importance):
        return nothing(IMPORTANCES, info.why_not or "optuna found none")
    names = labels(info.choice, 40)
    bars = {
        "type": "bar", "orientation": "h", "x": info.importance, "y": names,
        "marker": {"color": VIOLET, "opacity": 0.8, "cornerradius": 3},
        "hovertemplate": "%{y}: %{x:.0%}<extra></extra>", "showlegend": False,
    }  # fmt: skip
    alt = "; ".join(f"{name} {share:.0%}" for name, share in zip(info.choice, info.importance, strict=True)) + "."
    x = {"title": "share of the scores' spread it explains", "range": [0, 1.0], "tickformat": ".0%"}
    y = {"type": "category", "autorange": "reversed", "showgrid": False}
    hint = f"optuna's {info.method} over {plural(info.trials, 'trial')}; says how much, not in which direction"
    return chart(IMPORTANCES, [bars], alt=alt, hint=hint, x=x, y=y, height=int(150 + 34 * len(names)))


def plot_importances(snapshot: StudySnapshot) -> Any:
    """Return a figure of optuna's importance of each choice; where there is none it says why."""
    return draw(importances_chart(snapshot))
