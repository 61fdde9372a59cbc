"""The façade users hold: thin classes and functions that join the rooms below, in the session in force."""

from dspex_nb.api.accelerating import accelerate
from dspex_nb.api.cards import show_signature, signature_bundle
from dspex_nb.api.comparisons import Comparison, compare
from dspex_nb.api.embedders import Embedder
from dspex_nb.api.evaluating import evaluate, load_evaluation
from dspex_nb.api.evaluations import Evaluation, Trace
from dspex_nb.api.judges import judge
from dspex_nb.api.lms import LM, client_of
from dspex_nb.api.loading import load
from dspex_nb.api.media import audio, file, image, webcam
from dspex_nb.api.past_runs import PastRun, load_run
from dspex_nb.api.pipelines import Pipeline
from dspex_nb.api.pools import pool, pool_status
from dspex_nb.api.predictors import ChainOfThought, Predict
from dspex_nb.api.reranking import rerank
from dspex_nb.api.responding import respond
from dspex_nb.api.retriever_views import SearchBox
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
from dspex_nb.api.synthesis import Synthesized, synthesize
from dspex_nb.pipelines import colbertv2, retriever
from dspex_nb.retrieval.loading import load_documents

__all__ = [
    "LM",
    "ChainOfThought",
    "Comparison",
    "Embedder",
    "Evaluation",
    "PastRun",
    "Pipeline",
    "Predict",
    "Run",
    "SearchBox",
    "Signature",
    "Study",
    "Synthesized",
    "Trace",
    "accelerate",
    "as_public",
    "as_signature",
    "audio",
    "cache_status",
    "client_of",
    "colbertv2",
    "compare",
    "compare_studies",
    "configure",
    "context",
    "doctor",
    "evaluate",
    "file",
    "image",
    "judge",
    "load",
    "load_documents",
    "load_evaluation",
    "load_run",
    "load_study",
    "metric_names",
    "optimize",
    "optimizer_names",
    "optimizer_options",
    "optimizers",
    "pool",
    "pool_status",
    "rerank",
    "respond",
    "retriever",
    "retrievers",
    "run_list",
    "session",
    "show_signature",
    "signature_bundle",
    "status",
    "studies",
    "synthesize",
    "warm_up",
    "webcam",
]
