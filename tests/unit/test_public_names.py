"""What `import dspex_nb as dx` gives: pinned, so that nothing appears or goes unseen."""

import inspect
import re

import pytest

import dspex_nb as dx

PINNED = [
    "Avatar",
    "Cache",
    "Cancelled",
    "Capabilities",
    "ChainOfThought",
    "Comparison",
    "DSPexError",
    "Evaluation",
    "Example",
    "FieldEvent",
    "InputField",
    "LM",
    "OutputField",
    "Passage",
    "Pipeline",
    "Predict",
    "Prediction",
    "Response",
    "Run",
    "Signature",
    "StandInTrainer",
    "Study",
    "Usage",
    "__version__",
    "accelerate",
    "best_of_n",
    "chain_of_thought",
    "code_act",
    "compare_studies",
    "configure",
    "context",
    "datasets",
    "doctor",
    "errors",
    "evaluate",
    "field",
    "knn",
    "judge",
    "load",
    "load_ipython_extension",
    "load_run",
    "load_study",
    "metrics",
    "module",
    "multi_chain_comparison",
    "native",
    "optimize",
    "optimizers",
    "parallel",
    "pool",
    "predict",
    "program_of_thought",
    "pure",
    "react",
    "react_v2",
    "reduce",
    "refine",
    "rerank",
    "respond",
    "retriever",
    "retrievers",
    "rlm",
    "routes",
    "run_list",
    "session",
    "status",
    "studies",
    "template",
    "testing",
]


def test_the_list():
    assert sorted(dx.__all__) == sorted(PINNED)
    assert dir(dx) == dx.__all__


@pytest.mark.parametrize("name", PINNED)
def test_each_resolves_and_explains_itself(name):
    value = getattr(dx, name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", value)
        return
    first = (inspect.getdoc(value) or "").strip().splitlines()
    assert first, name
    assert first[0].endswith((".", ":")) or len(first) > 1
    assert value is getattr(dx, name)
    if inspect.isclass(value) and value.__module__.startswith("dspex_nb"):
        for label, member in inspect.getmembers(value):
            if not label.startswith("_") and callable(member) and getattr(member, "__module__", "").startswith("dspex_nb"):
                assert inspect.getdoc(member), f"{name}.{label}"


def test_a_session_is_a_call_also_after_its_record_is_imported():
    import dspex_nb.ambient  # noqa: F401

    assert callable(dx.session)


def test_the_fixed_shapes():
    def takes(function, *names):
        return set(names) <= set(inspect.signature(function).parameters)

    assert takes(
        dx.LM,
        "model",
        "api_key",
        "api_base",
        "cache",
        "temperature",
        "max_tokens",
        "num_retries",
        "timeout_s",
        "max_concurrency",
        "rpm",
        "tpm",
    )
    assert takes(dx.Predict, "signature", "adapter")
    assert takes(dx.Predict.batch, "rows", "n_jobs", "return_as", "on_error")
    assert takes(dx.evaluate, "program", "data", "metrics", "n_jobs", "timeout_s", "max_errors")
    assert takes(dx.optimize, "program", "optimizer", "metric", "trainset", "valset", "budget", "background", "seed")
    assert takes(dx.pool, "name", "size", "backend", "memory_bytes", "timeout_s", "gpus")
    assert takes(dx.Cache, "memory_entries", "directory", "size_bytes", "ttl_s")
    assert takes(dx.load, "path")


def test_a_name_misspelt():
    with pytest.raises(AttributeError, match="did you mean 'Predict'"):
        dx.Predct
