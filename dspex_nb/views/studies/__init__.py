"""Studies: columns from the run store in, plots, tables and the dashboard out. Importing this imports numpy."""

from dspex_nb.views.studies.choices import plot_choices, plot_importances
from dspex_nb.views.studies.comparisons import AXES, comparison_chart, plot_comparison
from dspex_nb.views.studies.costs import plot_cost
from dspex_nb.views.studies.dashboards import Reading, chart_html, dashboard_html, dashboard_still, dashboard_text
from dspex_nb.views.studies.examples import plot_examples
from dspex_nb.views.studies.history import plot_history, plot_spending
from dspex_nb.views.studies.minibatches import plot_minibatch
from dspex_nb.views.studies.parallels import plot_parallel
from dspex_nb.views.studies.plots import PLOTS
from dspex_nb.views.studies.program_diffs import ProgramDiff, program_diff, program_diff_html, program_diff_text
from dspex_nb.views.studies.snapshots import StudyColumns, StudyFacts, StudySnapshot
from dspex_nb.views.studies.trees import plot_candidates
from dspex_nb.views.studies.trial_details import MOST_CALLS, CallText, TrialDetail
from dspex_nb.views.studies.trial_tables import trials_page

__all__ = [
    "AXES",
    "MOST_CALLS",
    "PLOTS",
    "CallText",
    "ProgramDiff",
    "Reading",
    "StudyColumns",
    "StudyFacts",
    "StudySnapshot",
    "TrialDetail",
    "chart_html",
    "comparison_chart",
    "dashboard_html",
    "dashboard_still",
    "dashboard_text",
    "plot_candidates",
    "plot_choices",
    "plot_comparison",
    "plot_cost",
    "plot_examples",
    "plot_history",
    "plot_importances",
    "plot_minibatch",
    "plot_parallel",
    "plot_spending",
    "program_diff",
    "program_diff_html",
    "program_diff_text",
    "trials_page",
]
