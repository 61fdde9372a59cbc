"""The façade users hold: thin classes and functions that join the rooms below, in the session in force."""

from dspex_nb.api.accelerating import accelerate
from dspex_nb.api.cards import show_signature, signature_bundle
from dspex_nb.api.evaluations import Comparison, Evaluation, evaluate
from dspex_nb.api.judges import judge
from dspex_nb.api.lms import LM, client_of
from dspex_nb.api.loading import load
from dspex_nb.api.past_runs import PastRun, load_run
from dspex_nb.api.pipelines import Pipeline
from dspex_nb.api.pools import pool, pool_status
from dspex_nb.api.predictors import ChainOfThought, Predict
from dspex_nb.api.retrievers import retrievers
from dspex_nb.api.runs import Run
from dspex_nb.api.sessions import session
from dspex_nb.api.settings import configure, context
from dspex_nb.api.signatures import Signature, as_public, as_signature
from dspex_nb.api.status import cache_status, doctor, run_list, status, warm_up
from dspex_nb.api.studies import (
    Study,
    load_study,
    metric_names,
    optimize,
    optimizer_names,
    optimizer_options,
    optimizers,
    studies,
)
from dspex_nb.api.study_views import compare_studies

__all__ = [
    "LM",
    "ChainOfThought",
    "Comparison",
    "Evaluation",
    "PastRun",
    "Pipeline",
    "Predict",
    "Run",
    "Signature",
    "Study",
    "accelerate",
    "as_public",
    "as_signature",
    "cache_status",
    "client_of",
    "compare_studies",
    "configure",
    "context",
    "doctor",
    "evaluate",
    "judge",
    "load",
    "load_run",
    "load_study",
    "metric_names",
    "optimize",
    "optimizer_names",
    "optimizer_options",
    "optimizers",
    "pool",
    "pool_status",
    "retrievers",
    "run_list",
    "session",
    "show_signature",
    "signature_bundle",
    "status",
    "studies",
    "warm_up",
]
