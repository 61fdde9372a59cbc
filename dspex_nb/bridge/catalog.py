"""DSPy's optimizers: what each needs, and how one is made from a name and options."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.errors import MissingDependencyError, OptimizerError, did_you_mean


@dataclass(frozen=True, slots=True)
class OptimizerFacts:
    """What an optimizer needs.

    Attributes:
        metric: `"needed"`, `"optional"` or `"no"`.
        trainset: `"needed"` or `"no"`; `valset` `"optional"` (the trainset stands in) or `"no"`.
        module: The package to import first, empty if DSPy's own requirements suffice; `pip` is what installs it.
        scores: Whether it scores candidates while it works; else the study scores the start and the result.
        study: Whether `optimize` can run it; if not, `note` says what to do instead.
    """

    name: str
    metric: str
    trainset: str
    valset: str
    note: str
    module: str = ""
    pip: str = ""
    scores: bool = True
    study: bool = True
    home: str = "dspy.teleprompt"


_ALL = (
    OptimizerFacts("LabeledFewShot", "no", "needed", "no", "takes k labelled examples as demos; calls no LM", scores=False),
    OptimizerFacts("BootstrapFewShot", "optional", "needed", "no", "keeps traces the metric accepts as demos", scores=False),
    OptimizerFacts(
        "BootstrapFewShotWithRandomSearch", "needed", "needed", "optional", "bootstraps several demo sets and keeps the best",
    ),
    OptimizerFacts(
        "BootstrapFewShotWithOptuna", "needed", "needed", "optional", "searches demos with Optuna; give max_demos=",
        module="optuna", pip="dspy[optuna]",
    ),
    OptimizerFacts(
        "KNNFewShot", "optional", "needed", "no", "picks the nearest examples a call; give k= and vectorizer= (a dspy.Embedder)",
        scores=False,
    ),
    OptimizerFacts("COPRO", "needed", "needed", "no", "rewrites the instructions, breadth by depth"),
    OptimizerFacts(
        "MIPROv2", "needed", "needed", "optional", "proposes instructions and demos; auto='light'|'medium'|'heavy'",
        module="optuna", pip="dspy[optuna]",
    ),
    OptimizerFacts("SIMBA", "needed", "needed", "no", "learns rules and demos from mini-batches; at least bsize (32) examples"),
    OptimizerFacts(
        "GEPA", "needed", "needed", "optional", "reflects on failures in words; a metric may return score and feedback",
        module="gepa", pip="gepa",
    ),
    OptimizerFacts("InferRules", "needed", "needed", "optional", "infers rules in words from the examples"),
    OptimizerFacts("BetterTogether", "needed", "needed", "optional", "chains optimizers given by keyword; p=…, strategy='p'"),
    OptimizerFacts("Ensemble", "no", "no", "no", "takes programs, not one: dspy.Ensemble().compile([...])", study=False),
    OptimizerFacts(
        "BootstrapFinetune", "optional", "needed", "no", "finetunes weights: needs a dspy.LM whose provider trains", study=False,
    ),
    OptimizerFacts(
        "AvatarOptimizer", "needed", "needed", "no",
        "for an Avatar actor only; DSPy 3.4 cannot make it (it uses a removed class)", study=False,
    ),
    OptimizerFacts(
        "GRPO", "needed", "needed", "optional", "trains weights by reinforcement on a server of its own",
        study=False, home="dspy.teleprompt.grpo",
    ),
)  # fmt: skip
FACTS: Mapping[str, OptimizerFacts] = {facts.name: facts for facts in _ALL}


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer ready to compile.

    Attributes:
        teleprompter: DSPy's object.
        compile_options: Keyword arguments of its `compile` beside student, trainset and valset.
    """

    facts: OptimizerFacts
    teleprompter: Any
    compile_options: Mapping[str, Any] = field(default_factory=dict)

    def compile(self, program: Any, trainset: Sequence[Any], valset: Sequence[Any] | None) -> Any:
        """Run it; returns the program it ends with."""
        takes = inspect.signature(self.teleprompter.compile).parameters
        given = dict(self.compile_options)
        if "trainset" in takes:
            given["trainset"] = list(trainset)
        if "valset" in takes and valset is not None:
            given["valset"] = list(valset)
        if "eval_kwargs" in takes:  # COPRO requires it in fact, and unpacks it
            given["eval_kwargs"] = {"num_threads": 1, "display_progress": False, **(given.get("eval_kwargs") or {})}
        return self.teleprompter.compile(program, **given)


def optimizers() -> Any:
    """Return a DataFrame, a row an optimizer: what it needs and whether that is installed."""
    import pandas as pd

    rows = [
        {
            "name": facts.name,
            "metric": facts.metric,
            "trainset": facts.trainset,
            "valset": facts.valset,
            "extra": facts.pip,
            "installed": _is_installed(facts.module),
            "study": facts.study,
            "note": facts.note,
        }
        for facts in _ALL
    ]
    return pd.DataFrame(rows).set_index("name")


def find_optimizer(name: str) -> OptimizerFacts:
    """Return an optimizer's facts; imports nothing, so a misspelt name is refused at once.

    Raises:
        OptimizerError: No such optimizer, or none that `optimize` can run.
        MissingDependencyError: Its package is not installed.
    """
    facts = FACTS.get(name)
    if facts is None:
        hint = f"{did_you_mean(name, FACTS)}dx.optimizers() lists them all"
        raise OptimizerError(f"there is no optimizer {name!r}", hint=hint)
    if not facts.study:
        raise OptimizerError(f"{name} cannot run as a study: {facts.note}", hint="use it from dspy directly, or choose another")
    if not _is_installed(facts.module):
        raise MissingDependencyError(f"{name} needs the package {facts.module!r}", hint=f"pip install '{facts.pip}'")
    return facts


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that neither the optimizer's constructor nor its `compile` takes.

    Raises:
        OptimizerError: With the nearest option there is.
    """
    _split_options(find_optimizer(name), _class_of(find_optimizer(name)), options)


def make_optimizer(
    name: str,
    metric: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    lm: Any = None,
    n_jobs: int | None = None,
) -> Optimizer:
    """Make an optimizer from its name.

    Args:
        name: A name of `optimizers()`.
        metric: `metric(example, prediction, trace=None)`; its score is in 0 to 1.
        options: Options of its constructor or of its `compile`.
        seed: Used where the optimizer takes one.
        lm: The LM that writes reflections (GEPA); the current one elsewhere.
        n_jobs: Threads of its evaluations, where the options do not say.

    Raises:
        OptimizerError: Unknown name or option, or no metric where one is needed.
    """
    facts = find_optimizer(name)
    if facts.metric == "needed" and metric is None:
        raise OptimizerError(f"{name} needs a metric", hint="pass metric=, a function metric(example, prediction, trace=None)")
    cls = _class_of(facts)
    construct, compiling = _split_options(facts, cls, options or {})
    takes = inspect.signature(cls.__init__).parameters
    defaults = {"metric": metric, "seed": seed, "num_threads": n_jobs, "reflection_lm": lm if name == "GEPA" else None}
    for key, value in defaults.items():
        if value is not None and (key in takes or (key == "metric" and name in {"InferRules", "KNNFewShot"})):
            construct.setdefault(key, value)
    _fill_in(name, construct, compiling, inspect.signature(cls.compile).parameters, seed)
    try:
        return Optimizer(facts, cls(**construct), compiling)
    except (TypeError, ValueError, AssertionError) as error:
        raise OptimizerError(f"{name} cannot be made: {error}", hint=facts.note) from error


def _fill_in(name: str, construct: dict[str, Any], compiling: dict[str, Any], takes: Mapping[str, Any], seed: int) -> None:
    """Supply what DSPy asks for in a terminal or refuses to do without."""
    if "seed" in takes:
        compiling.setdefault("seed", seed)
    if name == "GEPA" and not {"auto", "max_full_evals", "max_metric_calls"} & construct.keys():
        construct["auto"] = "light"
    if name == "GEPA" and "metric" in construct:
        construct["metric"] = _with_feedback_arguments(construct["metric"])
    if name == "MIPROv2" and {"num_candidates", "num_trials"} & (construct.keys() | compiling.keys()):
        construct.setdefault("auto", None)  # DSPy refuses `auto` beside explicit counts, and its default is not None


def _with_feedback_arguments(metric: Callable[..., Any]) -> Callable[..., Any]:
    """GEPA refuses a metric that does not take its five arguments; the last two are a predictor's name and trace."""

    def feedback_metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:  # noqa: ARG001
        return metric(gold, pred, trace)

    return feedback_metric


def option_names(name: str) -> list[str]:
    """Return the names of an optimizer's own options, for completion and did-you-mean.

    Raises:
        OptimizerError: No such optimizer.
    """
    return sorted(_known_options(_class_of(find_optimizer(name))))


def _known_options(cls: Any) -> set[str]:
    built, compiled = inspect.signature(cls.__init__).parameters, inspect.signature(cls.compile).parameters
    ours = {"self", "student", "trainset", "valset", "metric", "programs"}
    known = {key for key in (*built, *compiled) if key not in ours and not key.endswith("kwargs")}
    return known | {key for key in ("gepa_kwargs", "eval_kwargs", "wandb_init_kwargs") if key in built or key in compiled}


def _split_options(facts: OptimizerFacts, cls: Any, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    built = inspect.signature(cls.__init__).parameters
    compiled = inspect.signature(cls.compile).parameters
    open_ended = facts.name in {"BetterTogether", "KNNFewShot", "InferRules"}  # **kwargs that mean something there
    known = _known_options(cls)
    construct, compiling = {}, {}
    for key, value in options.items():
        if key in built and key in known:
            construct[key] = value
        elif key in compiled and key in known:
            compiling[key] = value
        elif open_ended:
            construct[key] = value
        else:
            hint = f"{did_you_mean(key, known)}options of {facts.name}: {', '.join(sorted(known))}"
            raise OptimizerError(f"{facts.name} takes no option {key!r}", hint=hint)
    return construct, compiling


def _class_of(facts: OptimizerFacts) -> Any:
    return getattr(importlib.import_module(facts.home), facts.name)


def _is_installed(module: str) -> bool:
    return not module or importlib.util.find_spec(module) is not None
