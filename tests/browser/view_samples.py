"""Sample data for every view, as the notebooks of the browser tests show it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from dspex_nb import views as v
from dspex_nb.events import LMCalled, Progress, RunEnded, RunStarted, StepEnded, StepStarted
from dspex_nb.messages import Usage
from dspex_nb.predictions import Facts, Prediction, Route
from dspex_nb.store.rows import ExampleRow, TrialRow
from dspex_nb.views.studies import (
    PLOTS,
    Reading,
    StudyColumns,
    StudyFacts,
    StudySnapshot,
    dashboard_html,
    dashboard_still,
    dashboard_text,
)

T0 = 1_800_000_000.0
DESKS = ("billing", "tech", "sales")


def card() -> v.SignatureCardInfo:
    return v.SignatureCardInfo(
        name="Triage",
        instructions="Route a customer message to the right desk.",
        inputs=(
            v.FieldInfo("message", "str", "what the customer wrote"),
            v.FieldInfo("history", "list[str]", "earlier messages, oldest first", "[]"),
        ),
        outputs=(
            v.FieldInfo("desk", 'Literal["billing", "tech", "sales"]'),
            v.FieldInfo("urgency", "int", "1 (can wait) to 5 (now)"),
        ),
        adapter="compact",
        messages=(
            {"role": "system", "content": "Route a customer message to the right desk.\nAnswer in JSON: desk, urgency."},
            {"role": "user", "content": "message: {message}\nhistory: {history}"},
        ),
        schema={
            "type": "object",
            "properties": {"desk": {"enum": list(DESKS)}, "urgency": {"type": "integer"}},
            "required": ["desk", "urgency"],
        },
    )


def prediction(cached: str | None = None) -> Prediction:
    usage = Usage(118, 14, 0, 0 if cached else 1, 1 if cached else 0)
    route = Route(
        "", "native", "threads", "The compact adapter can write this signature exactly, so the native engine serves it."
    )
    return Prediction({"desk": "billing", "urgency": 4}, Facts(usage, 0.0, route, "r1", 0.004 if cached else 0.41, cached))


def step(name, kind, reads=(), writes=(), parent=None, engine=None):
    return {
        "name": name,
        "kind": kind,
        "engine": engine,
        "line": 1,
        "reads": list(reads),
        "writes": list(writes),
        "parent": parent,
        "summary": "",
    }


def support() -> dict:
    return {
        "name": "support",
        "inputs": [{"name": "message", "type": "str"}],
        "steps": [
            step("clean", "function", ["message"], ["text"], engine="python"),
            step("triage", "predict", ["text"], ["desk", "urgency"], engine="native"),
            step("angles", "parallel", ["text"], ["angles"]),
            step("angles.mood", "predict", ["text"], ["mood"], "angles", "native"),
            step("angles.topic", "chain_of_thought", ["text"], ["topic"], "angles", "dspy"),
            step("reply", "chain_of_thought", ["desk", "angles"], ["answer"], engine="dspy"),
            step("letter", "template", ["answer", "desk"], ["letter"], engine="python"),
        ],
        "edges": [
            ["clean", "triage"],
            ["clean", "angles"],
            ["triage", "reply"],
            ["angles", "reply"],
            ["reply", "letter"],
            ["triage", "letter"],
        ],
        "outputs": ["letter"],
    }


def big(n: int = 20) -> dict:
    names = [f"step_{i:02d}_{'extract' if i % 3 else 'summarize'}" for i in range(n)]
    edges = [[names[i // 3], names[i]] for i in range(1, n)] + [
        [names[2], names[-1]],
        [names[0], names[12]],
        [names[5], names[-2]],
    ]
    steps = [
        step(name, "predict" if i % 2 else "function", engine="native" if i % 2 else "python") for i, name in enumerate(names)
    ]
    return {
        "name": "research",
        "inputs": [{"name": "query", "type": "str"}],
        "steps": steps,
        "edges": edges,
        "outputs": names[-1:],
    }


def chain(n: int = 9) -> dict:
    steps = [step(f"stage{i}", "predict", engine="native") for i in range(n)]
    return {
        "name": "chain",
        "inputs": [],
        "steps": steps,
        "edges": [[f"stage{i}", f"stage{i + 1}"] for i in range(n - 1)],
        "outputs": [],
    }


def run_events(fail: bool = False) -> Iterator:
    at = lambda s: {"run_id": "r1", "at": T0 + s}  # noqa: E731
    yield RunStarted(name="support", of="pipeline", total=7, info=support(), **at(0))
    yield StepStarted(step="clean", engine="python", reason="A Python function runs as it is.", **at(0))
    yield StepEnded(step="clean", status="done", elapsed_s=0.0004, **at(0.01))
    native = "The compact adapter can write this signature exactly."
    yield StepStarted(step="triage", engine="native", reason=native, **at(0.02))
    yield StepStarted(step="angles", engine="python", reason="Its branches run at once.", **at(0.02))
    yield StepStarted(step="angles.mood", engine="native", reason=native, **at(0.02))
    yield StepStarted(step="angles.topic", engine="dspy", reason="Asked for with engine='dspy'.", **at(0.02))
    yield LMCalled(model="local", step="triage", prompt_tokens=118, completion_tokens=14, cost=0.0, **at(0.5))
    yield StepEnded(step="triage", status="done", elapsed_s=0.48, **at(0.5))
    yield LMCalled(model="local", step="angles.mood", cached="disk", prompt_tokens=90, completion_tokens=6, **at(0.6))
    yield StepEnded(step="angles.mood", status="cached", elapsed_s=0.002, **at(0.6))
    if fail:
        error = (
            "step 'angles.topic' (line 7): the model's answer has no field 'topic'\n→ raise max_tokens, or use adapter='compact'"
        )
        yield StepEnded(step="angles.topic", status="failed", elapsed_s=1.2, error=error.partition("\n")[0], **at(1.3))
        yield StepEnded(step="angles", status="failed", elapsed_s=1.3, **at(1.3))
        yield StepEnded(step="reply", status="skipped", **at(1.3))
        yield StepEnded(step="letter", status="skipped", **at(1.3))
        yield RunEnded(status="failed", elapsed_s=1.31, error=error, **at(1.31))


def run(fail: bool = False) -> v.RunInfo:
    state = v.RunState()
    for event in run_events(fail):
        state.apply(event)
    return state.snapshot(T0 + 1.6)


def plan() -> v.PlanInfo:
    why = {"python": "A Python function runs as it is.", "dspy": "Asked for with engine='dspy'."}
    routes = [
        v.RouteInfo(
            s["name"],
            s["engine"] or "python",
            "threads",
            why.get(s["engine"], "The compact adapter can write this signature exactly."),
        )
        for s in support()["steps"]
    ]
    return v.PlanInfo("support", routes, support())


def progress() -> v.ProgressInfo:
    state = v.ProgressState()
    state.apply(RunStarted(run_id="m", at=T0, name="support", of="map", total=120))
    state.apply(LMCalled(run_id="m", at=T0 + 1, model="local", cost=0.0))
    for i in range(1, 43):
        state.apply(Progress(run_id="m", at=T0 + i * 0.4, done=i, total=120, errors=i // 20))
    return state.snapshot(T0 + 17)


def evaluation() -> v.EvaluationInfo:
    rng = random.Random(7)
    texts = ["I was charged twice for the same month, please refund one of the payments.", "The app closes as soon as I open the camera.",
             "Do you offer a discount for schools?", "Why does my invoice show a second seat? I never added anyone, and the portal says I cannot remove it either. " * 3]  # fmt: skip
    examples, pairs = [], []
    for i in range(64):
        want = DESKS[i % 3]
        got = want if rng.random() < 0.78 else rng.choice(DESKS)
        error = "LMTimeoutError: no answer within 30 s" if i == 17 else ""
        pairs.append((want, got))
        right = want == got and not error
        examples.append(
            v.ExampleInfo(
                i, {"message": texts[i % 4]}, {"desk": want}, {} if error else {"desk": got}, {"exact_match": float(right), "latency": 0.3 + rng.random() / 5},
                right, 0.3 + rng.random() / 5, error, cached=i % 5 == 0,
            )
        )  # fmt: skip
    score = sum(e.correct for e in examples) / len(examples)
    metrics = (v.MetricInfo("exact_match", score, (score - 0.1, score + 0.09)), v.MetricInfo("latency", 0.41))
    return v.EvaluationInfo(
        "support",
        metrics,
        examples,
        labels=v.labels_info("desk", pairs),
        errors=1,
        calls=51,
        cache_hits=13,
        tokens=8123,
        cost=0.0,
        elapsed_s=21.3,
    )


def study(status: str = "running", **facts) -> StudySnapshot:
    """Return a study of seven trials and one that runs."""
    columns = StudyColumns()
    scores = [0.55, 0.525, 0.6, 0.575, 0.7, 0.65, 0.7, None]
    demos = [{"message": "My card was charged twice.", "desk": "billing", "urgency": 4}] * 3
    for n, score in enumerate(scores):
        label = "zero-shot" if n == 0 else "labelled demos" if n == 1 else f"{min(n, 4)} bootstrapped demos"
        told = {"instructions": "Route a customer message to the right desk.", "demos": demos[: min(n, 3)]}
        info = {"label": label, "demos": min(n, 4), "predictors": {"triage": told}}
        columns.take_trials([
            TrialRow(
                trial=n, seq=n, kind="start" if n == 0 else "candidate", status="running" if score is None else "done", score=score,
                best=score, examples=40, errors=n == 3, elapsed_s=6.5, at=T0 + 6.5 * n, parent=None if n == 0 else max(n - 2, 0), calls=3,
                cache_hits=1, prompt_tokens=2400 + 90 * n, completion_tokens=180, cost=0.002 + 0.0001 * n, saved_cost=0.001, info=info,
            )
        ])  # fmt: skip
        columns.take_examples([ExampleRow(n, i, i, float((i * 7 + n) % 10 < 6), None, 0.4) for i in range(40 if score else 13)])
    told = {
        "name": "Triage", "optimizer": "BootstrapFewShotWithRandomSearch", "metric": "exact_match", "total": 9, "done_rows": 13,
        "total_rows": 40, "calls": 24, "cache_hits": 8, "prompt_tokens": 21_000, "completion_tokens": 1440, "paid": 0.02, "saved": 0.008,
        "elapsed_s": 48.7, "options": {"max_bootstrapped_demos": 4, "num_candidate_programs": 6, "seed": 0},
    }  # fmt: skip
    return columns.snapshot(StudyFacts(status=status, **(told | facts)))


def live_study(reading: Reading = Reading()) -> str:  # noqa: B008 - a frozen record
    found = study()
    return dashboard_html(found, reading, PLOTS[reading.plot].chart(found))


def comparison(after: float = 0.7) -> v.ComparisonInfo:
    interval = (after - 0.55 - 0.09, after - 0.55 + 0.08)
    before = v.ScoreInfo("before", 0.55, (0.42, 0.67), 60)
    return v.ComparisonInfo("exact_match", before, v.ScoreInfo("after", after, (after - 0.12, after + 0.11), 60), interval, 12, 3)


def status() -> v.StatusInfo:
    cache = v.CacheInfo(120, 34, 201, 201, 812_331, 1 << 30, "/home/me/.cache/dspex", 201, faults=1)
    pools = (v.PoolInfo("threads", "thread", 32, 2, 0, 311, 1), v.PoolInfo("modules", "loky", 2, 0, 0, 12, 0))
    facts = (("served at", "http://127.0.0.1:40113 (embedded)"), ("file", "SmolLM2-135M-Instruct-Q4_K_M.gguf"))
    return v.StatusInfo("local", facts, "compact (the LM's own)", cache, pools, 201, 154, 31_220, 4_011, 0.0, "0.1.0")


def all_views() -> dict[str, tuple[str, str]]:
    """Return each view's HTML and text."""
    return {
        "signature": (v.signature_card(card()), v.signature_text(card())),
        "prediction": (v.prediction_html(prediction()), v.prediction_text(prediction())),
        "prediction_cached": (v.prediction_html(prediction("disk")), v.prediction_text(prediction("disk"))),
        "run": (v.run_html(run()), v.run_text(run())),
        "run_failed": (v.run_html(run(fail=True)), v.run_text(run(fail=True))),
        "run_big": (v.pipeline_html(big()), v.pipeline_text(big())),
        "run_chain": (v.pipeline_html(chain()), v.pipeline_text(chain())),
        "plan": (v.plan_html(plan()), v.plan_text(plan())),
        "progress": (v.progress_html(progress()), v.progress_text(progress())),
        "evaluation": (v.evaluation_html(evaluation()), v.evaluation_text(evaluation())),
        "study": (live_study(), dashboard_text(study())),
        "study_done": (
            dashboard_still(study("done", note=v.comparison_sentence(comparison())), {}),
            dashboard_text(study("done")),
        ),
        "comparison": (v.comparison_html(comparison()), v.comparison_text(comparison())),
        "status": (v.status_html(status()), v.status_text(status())),
    }
