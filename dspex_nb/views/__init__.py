"""Events in, snapshots out, drawn as HTML that survives a saved notebook, as text, and as plotly figures. Pure.

Studies have a room of their own, `views.studies`, which imports numpy.
"""

from dspex_nb.views.comparison_views import (
    ChangeInfo,
    ComparisonInfo,
    ScoreInfo,
    comparison_html,
    comparison_sentence,
    comparison_text,
)
from dspex_nb.views.evaluation_page import evaluation_page
from dspex_nb.views.evaluation_views import (
    EvaluationInfo,
    MetricInfo,
    evaluating_html,
    evaluation_html,
    evaluation_live_html,
    evaluation_text,
    labels_bundle,
    plot_labels,
)
from dspex_nb.views.example_tables import ExampleInfo, ExampleTable
from dspex_nb.views.figures import figure_bundle
from dspex_nb.views.label_charts import LabelsInfo, labels_info, labels_svg
from dspex_nb.views.markup import Html, error_notice, escape, frame, static
from dspex_nb.views.pictures import StepMark, pipeline_line, pipeline_mermaid, pipeline_picture, pipeline_text
from dspex_nb.views.prediction_views import PredictionInfo, prediction_html, prediction_info, prediction_text, predictions_html
from dspex_nb.views.progress_views import ProgressInfo, ProgressState, progress_html, progress_text
from dspex_nb.views.run_states import RunInfo, RunState, StepInfo
from dspex_nb.views.run_views import PlanInfo, RouteInfo, pipeline_html, plan_html, plan_text, run_html, run_text
from dspex_nb.views.signature_cards import FieldInfo, SignatureCardInfo, signature_card, signature_text
from dspex_nb.views.status_views import (
    CacheInfo,
    PoolInfo,
    StatusInfo,
    cache_html,
    cache_text,
    listing_html,
    message_html,
    pools_html,
    pools_text,
    status_html,
    status_text,
)
from dspex_nb.views.stream_views import StreamInfo, StreamState, stream_html, stream_text
from dspex_nb.views.synthesis_views import SynthesisInfo, synthesis_html, synthesis_text
from dspex_nb.views.tables import Column, facts_html, facts_text, number, table_html, table_text
from dspex_nb.views.trace_views import trace_html, trace_text

__all__ = [
    "CacheInfo",
    "ChangeInfo",
    "Column",
    "ComparisonInfo",
    "EvaluationInfo",
    "ExampleInfo",
    "ExampleTable",
    "FieldInfo",
    "Html",
    "LabelsInfo",
    "MetricInfo",
    "PlanInfo",
    "PoolInfo",
    "PredictionInfo",
    "ProgressInfo",
    "ProgressState",
    "RouteInfo",
    "RunInfo",
    "RunState",
    "ScoreInfo",
    "SignatureCardInfo",
    "StatusInfo",
    "StepInfo",
    "StepMark",
    "StreamInfo",
    "StreamState",
    "SynthesisInfo",
    "cache_html",
    "cache_text",
    "comparison_html",
    "comparison_sentence",
    "comparison_text",
    "error_notice",
    "escape",
    "evaluating_html",
    "evaluation_html",
    "evaluation_live_html",
    "evaluation_page",
    "evaluation_text",
    "facts_html",
    "facts_text",
    "figure_bundle",
    "frame",
    "labels_bundle",
    "labels_info",
    "labels_svg",
    "listing_html",
    "message_html",
    "number",
    "pipeline_html",
    "pipeline_line",
    "pipeline_mermaid",
    "pipeline_picture",
    "pipeline_text",
    "plan_html",
    "plan_text",
    "plot_labels",
    "pools_html",
    "pools_text",
    "prediction_html",
    "prediction_info",
    "prediction_text",
    "predictions_html",
    "progress_html",
    "progress_text",
    "run_html",
    "run_text",
    "signature_card",
    "signature_text",
    "static",
    "status_html",
    "status_text",
    "stream_html",
    "stream_text",
    "synthesis_html",
    "synthesis_text",
    "table_html",
    "table_text",
    "trace_html",
    "trace_text",
]
