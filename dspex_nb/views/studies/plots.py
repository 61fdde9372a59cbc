"""The plots of a study by name, in the order of the dashboard's tabs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dspex_nb.views.charts import Chart
from dspex_nb.views.studies.choices import choices_chart, importances_chart
from dspex_nb.views.studies.costs import cost_chart
from dspex_nb.views.studies.examples import examples_chart
from dspex_nb.views.studies.history import history_chart, spending_chart
from dspex_nb.views.studies.minibatches import minibatch_chart
from dspex_nb.views.studies.parallels import parallel_chart
from dspex_nb.views.studies.snapshots import StudySnapshot
from dspex_nb.views.studies.trees import candidates_chart


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: its tab's name, and what draws it. `slow` ones are drawn again only after many new trials."""

    tab: str
    chart: Callable[[StudySnapshot], Chart]
    slow: bool = False


PLOTS: dict[str, Plot] = {
    "history": Plot("History", history_chart),
    "spending": Plot("Spending", spending_chart),
    "cost": Plot("Cost", cost_chart),
    "minibatch": Plot("Parts", minibatch_chart),
    "examples": Plot("Examples", examples_chart),
    "choices": Plot("Choices", choices_chart),
    "importances": Plot("Importance", importances_chart, slow=True),
    "parallel": Plot("Parallel", parallel_chart),
    "candidates": Plot("Tree", candidates_chart),
}
