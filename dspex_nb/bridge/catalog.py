"""DSPy's optimizers: what each needs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_nb.errors import MissingDependencyError, OptimizerError, did_you_mean


@dataclass(frozen=True, slots=True)
class OptimizerFacts:
    """What an optimizer needs.

    Attributes:
        metric: `"needed"`, `"optional"` or `"no"`.
        trainset: `"needed"` or `"no"`; `valset` `"optional"` (the trainset stands in) or `"no"`.
        module: The package to import first, empty if DSPy's own requirements suffice; `pip` is what installs it.
        scores: Whether it scores candidates on the validation set while it works; else the study scores the start and the result.
        study: Whether `optimize` can run it; if not, `note` says what to do instead.
        cls: DSPy's class, where it has another name.
        program: What is tuned: `"program"`, `"programs"` (a list of them) or `"actor"` (a `dx.Avatar`).
        best: What its best program is: `"state"` (loads into the program), or `"program"` (another program around it).
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
    cls: str = ""
    program: str = "program"
    best: str = "state"

    @property
    def class_name(self) -> str:
        """The name of DSPy's class."""
        return self.cls or self.name


_ALL = (
    OptimizerFacts("LabeledFewShot", "no", "needed", "no", "takes k labelled examples as demos; calls no LM", scores=False),
    OptimizerFacts("BootstrapFewShot", "optional", "needed", "no", "keeps traces the metric accepts as demos", scores=False),
    OptimizerFacts(
        "BootstrapFewShotWithRandomSearch", "needed", "needed", "optional", "bootstraps several demo sets and keeps the best",
    ),
    OptimizerFacts(
        "BootstrapFewShotWithOptuna", "needed", "needed", "optional", "searches one demo a predictor with Optuna; max_demos=",
        module="optuna", pip="dspex_nb[optimizers]",
    ),
    OptimizerFacts(
        "KNNFewShot", "optional", "needed", "no",
        "bootstraps the k nearest examples at each call; vectorizer=, a dspy.Embedder (three-letter pieces if not given)",
        scores=False, best="program",
    ),
    OptimizerFacts("COPRO", "needed", "needed", "no", "rewrites the instructions, breadth by depth", scores=False),
    OptimizerFacts(
        "MIPROv2", "needed", "needed", "optional", "proposes instructions and demos; auto='light'|'medium'|'heavy'",
        module="optuna", pip="dspex_nb[optimizers]",
    ),
    OptimizerFacts(
        "MIPRO", "needed", "needed", "optional", "another name of MIPROv2: DSPy 3 has no first version", cls="MIPROv2",
        module="optuna", pip="dspex_nb[optimizers]",
    ),
    OptimizerFacts(
        "SIMBA", "needed", "needed", "no", "learns rules and demos from mini-batches; at least bsize (32) examples", scores=False,
    ),
    OptimizerFacts(
        "GEPA", "needed", "needed", "optional",
        "reflects on failures in words; the metric may return dspy.Prediction(score=, feedback=)", module="gepa", pip="gepa",
    ),
    OptimizerFacts("InferRules", "needed", "needed", "optional", "infers rules in words from the examples"),
    OptimizerFacts(
        "BetterTogether", "needed", "needed", "optional",
        "chains optimizers: p='MIPROv2', w={'optimizer': 'BootstrapFinetune'}, strategy='p -> w'",
    ),
    OptimizerFacts(
        "Ensemble", "optional", "no", "needed", "asks several programs: give a list of them; reduce_fn= (the majority), size=",
        scores=False, program="programs", best="program",
    ),
    OptimizerFacts(
        "BootstrapFinetune", "optional", "needed", "no",
        "exports training data and trains: provider=, a dspy Provider; dx.StandInTrainer() shows the path", scores=False,
    ),
    OptimizerFacts(
        "AvatarOptimizer", "needed", "needed", "no", "rewrites an actor's instruction from good and bad runs: give a dx.Avatar",
        scores=False, program="actor",
    ),
    OptimizerFacts(
        "GRPO", "needed", "needed", "optional", "trains weights by reinforcement on a server of its own",
        study=False, home="dspy.teleprompt.grpo",
    ),
)  # fmt: skip
FACTS: Mapping[str, OptimizerFacts] = {facts.name: facts for facts in _ALL}


def optimizers() -> Any:
    """Return a DataFrame, a row an optimizer: what it needs and whether that is installed."""
    import pandas as pd

    rows = [
        {
            "name": facts.name,
            "metric": facts.metric,
            "trainset": facts.trainset,
            "valset": facts.valset,
            "takes": facts.program,
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


def class_of(facts: OptimizerFacts) -> Any:
    """Return DSPy's class."""
    return getattr(importlib.import_module(facts.home), facts.class_name)


def _is_installed(module: str) -> bool:
    return not module or importlib.util.find_spec(module) is not None
