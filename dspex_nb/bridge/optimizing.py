"""One optimizer made from a name and options: which option goes where, and what DSPy refuses to do without."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_nb.bridge.catalog import FACTS, OptimizerFacts, class_of, find_optimizer
from dspex_nb.errors import OptimizerError, did_you_mean

_OURS = frozenset({"self", "student", "trainset", "valset", "metric", "programs", "requires_permission_to_run"})
_MAPPINGS = ("gepa_kwargs", "eval_kwargs", "wandb_init_kwargs", "train_kwargs")
_MORE = {"BootstrapFinetune": {"provider"}, "BetterTogether": {"provider"}}
"""Options that the study itself takes."""
_BOOTSTRAPPING = frozenset({"KNNFewShot", "InferRules"})
"""Those that hand their `**kwargs` to BootstrapFewShot."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a study gives to its optimizers beside the user's options.

    Attributes:
        seed: Used where an optimizer takes one.
        lm: Writes reflections (GEPA) and is trained (BootstrapFinetune).
        n_jobs: Threads of evaluations, where the options do not say.
    """

    seed: int = 0
    lm: Any = None
    n_jobs: int | None = None


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
        return self.teleprompter.compile(program, **given)


def make_optimizer(
    name: str,
    metric: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    trainset: Sequence[Any] = (),
    setting: Setting | None = None,
) -> Optimizer:
    """Make an optimizer from its name.

    Args:
        name: A name of `optimizers()`.
        metric: `metric(example, prediction, trace=None)`; its score is in 0 to 1.
        options: Options of its constructor or of its `compile`.
        trainset: For those whose constructor wants it.
        setting: The study's.

    Raises:
        OptimizerError: Unknown name or option, or no metric where one is needed.
    """
    facts, setting = find_optimizer(name), setting or Setting()
    if facts.metric == "needed" and metric is None:
        raise OptimizerError(f"{name} needs a metric", hint="pass metric=, a function metric(example, prediction, trace=None)")
    cls = our_class(facts)
    construct, compiling = _split_options(facts, cls, options or {})
    takes = inspect.signature(cls.__init__).parameters
    defaults = {"metric": metric, "seed": setting.seed, "num_threads": setting.n_jobs, "trainset": list(trainset)}
    for key, value in defaults.items():
        if value is not None and (key in takes or (key == "metric" and name in _BOOTSTRAPPING)):
            construct.setdefault(key, value)
    fill = _FILL.get(facts.class_name)
    if fill is not None:
        fill(construct, compiling, setting)
    if "seed" in inspect.signature(cls.compile).parameters:
        compiling.setdefault("seed", setting.seed)
    if name == "BetterTogether":
        construct |= _chained(construct, metric, trainset, setting)
    try:
        return Optimizer(facts, cls(**construct), compiling)
    except (TypeError, ValueError, AssertionError) as error:
        raise OptimizerError(f"{name} cannot be made: {error}", hint=facts.note) from error


def our_class(facts: OptimizerFacts) -> Any:
    """Return the class that is run: DSPy's, or ours where DSPy's does not run or is not repeatable."""
    if facts.name == "AvatarOptimizer":
        from dspex_nb.bridge.avatar import WatchedAvatarOptimizer

        return WatchedAvatarOptimizer
    if facts.name == "Ensemble":
        from dspex_nb.bridge.ensemble import RepeatableEnsemble

        return RepeatableEnsemble
    return class_of(facts)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that neither the optimizer's constructor nor its `compile` takes.

    Raises:
        OptimizerError: With the nearest option there is.
    """
    facts = find_optimizer(name)
    _split_options(facts, our_class(facts), options)


def option_names(name: str) -> list[str]:
    """Return the names of an optimizer's own options, for completion and did-you-mean.

    Raises:
        OptimizerError: No such optimizer.
    """
    facts = find_optimizer(name)
    return sorted(_known_options(facts, our_class(facts)))


def _known_options(facts: OptimizerFacts, cls: Any) -> set[str]:
    names = {*inspect.signature(cls.__init__).parameters, *inspect.signature(cls.compile).parameters}
    known = {key for key in names - _OURS if key in _MAPPINGS or not key.endswith(("kwargs", "_args")) or key in _ARGS}
    if facts.name in _BOOTSTRAPPING:
        known |= set(inspect.signature(class_of(FACTS["BootstrapFewShot"]).__init__).parameters) - _OURS
    return (known - {"optimizers"}) | _MORE.get(facts.name, set())


_ARGS = frozenset({"optimizer_compile_args"})


def _split_options(facts: OptimizerFacts, cls: Any, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    built, compiled = inspect.signature(cls.__init__).parameters, inspect.signature(cls.compile).parameters
    known = _known_options(facts, cls)
    construct: dict[str, Any] = {}
    compiling: dict[str, Any] = {}
    for key, value in options.items():
        if key in _MORE.get(facts.name, ()):
            continue
        if key in known and key in compiled and key not in built:
            compiling[key] = value
        elif key in known or (facts.name == "BetterTogether" and _is_optimizer(value)):
            construct[key] = value
        else:
            hint = f"{did_you_mean(key, known)}options of {facts.name}: {', '.join(sorted(known))}"
            raise OptimizerError(f"{facts.name} takes no option {key!r}", hint=hint)
    return construct, compiling


def _is_optimizer(value: Any) -> bool:
    """Say whether it names or is an optimizer: a name, a dict that holds one under `optimizer`, or DSPy's own object."""
    if isinstance(value, str):
        return value in FACTS
    return (isinstance(value, Mapping) and "optimizer" in value) or hasattr(value, "compile")


def chained_names(options: Mapping[str, Any]) -> list[str]:
    """Return the names of the optimizers that BetterTogether's options give, DSPy's own objects by their class."""
    given = [value for value in options.values() if _is_optimizer(value)]
    return [str(_asked(value).get("optimizer") or type(value).__name__) for value in given]


def _asked(value: Any) -> Mapping[str, Any]:
    """Return an optimizer's name and options as one mapping, empty for DSPy's own object."""
    if isinstance(value, str):
        return {"optimizer": value}
    return value if isinstance(value, Mapping) else {}


def _chained(
    construct: Mapping[str, Any], metric: Callable[..., Any] | None, trainset: Sequence[Any], setting: Setting
) -> dict[str, Any]:
    """Make the optimizers that BetterTogether chains; DSPy's defaults where none is named."""
    named = {key: value for key, value in construct.items() if key != "metric"}
    made: dict[str, Any] = {}
    for key, value in (named or {"p": "BootstrapFewShotWithRandomSearch", "w": "BootstrapFinetune"}).items():
        if hasattr(value, "compile"):
            made[key] = value
            continue
        options = dict(_asked(value))
        one = make_optimizer(options.pop("optimizer"), metric, options, trainset=trainset, setting=setting)
        made[key] = _with_compile_options(one)
    return made


def _with_compile_options(made: Optimizer) -> Any:
    """Return DSPy's object, its `compile` bound to the options that were given for it."""
    teleprompter, given = made.teleprompter, dict(made.compile_options)
    if given:
        plain = teleprompter.compile
        signature = inspect.signature(plain)

        def compile_with(*args: Any, **rest: Any) -> Any:
            return plain(*args, **{**given, **rest})

        compile_with.__signature__ = signature  # type: ignore[attr-defined]  # BetterTogether looks at it
        teleprompter.compile = compile_with
    return teleprompter


def _fill_gepa(construct: dict[str, Any], _: dict[str, Any], setting: Setting) -> None:
    if construct.get("reflection_lm") is None and construct.get("instruction_proposer") is None:
        construct["reflection_lm"] = setting.lm
    if not {"auto", "max_full_evals", "max_metric_calls"} & construct.keys():
        construct["auto"] = "light"


def _fill_mipro(construct: dict[str, Any], compiling: dict[str, Any], _: Setting) -> None:
    if {"num_candidates", "num_trials"} & (construct.keys() | compiling.keys()):
        construct.setdefault("auto", None)  # DSPy refuses `auto` beside explicit counts, and its default is not None


def _fill_copro(_: dict[str, Any], compiling: dict[str, Any], setting: Setting) -> None:
    given = compiling.get("eval_kwargs") or {}  # required in fact, and unpacked
    compiling["eval_kwargs"] = {"num_threads": setting.n_jobs or 1, "display_progress": False, **given}


def _fill_knn(construct: dict[str, Any], _: dict[str, Any], setting: Setting) -> None:  # noqa: ARG001 - as its siblings
    from dspex_nb.bridge.neighbours import trigram_embedder

    construct.setdefault("k", 3)
    construct.setdefault("vectorizer", trigram_embedder())


def _fill_optuna(_: dict[str, Any], compiling: dict[str, Any], __: Setting) -> None:
    compiling.setdefault("max_demos", 4)


def _fill_ensemble(construct: dict[str, Any], _: dict[str, Any], setting: Setting) -> None:
    construct.setdefault("seed", setting.seed)


_FILL: Mapping[str, Callable[[dict[str, Any], dict[str, Any], Setting], None]] = {
    "GEPA": _fill_gepa,
    "MIPROv2": _fill_mipro,
    "COPRO": _fill_copro,
    "KNNFewShot": _fill_knn,
    "BootstrapFewShotWithOptuna": _fill_optuna,
    "Ensemble": _fill_ensemble,
}
"""What DSPy asks for in a terminal or refuses to do without."""
