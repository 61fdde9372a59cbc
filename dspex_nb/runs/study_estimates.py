"""How many LM calls a study may make and what they may cost: said before it starts, from counts and sizes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dspex_nb.bridge import StudyPlan
from dspex_nb.messages import Usage

_LETTERS_A_TOKEN = 4
_FRAME_TOKENS = 180
"""What an adapter writes around the fields: guessed."""
_PROPOSAL_TOKENS = 900
_AUTO = {"light": 6, "medium": 12, "heavy": 18}
_AUTO_VALSET = {"light": 100, "medium": 300, "heavy": 1000}
_MINIBATCH, _FULL_EVERY, _MIPRO_MINIBATCH = 35, 5, 50


@dataclass(frozen=True, slots=True)
class StudyEstimate:
    """What a study may take at most, as far as that can be told before it starts; cache hits make it less.

    Attributes:
        calls: LM requests.
        cost: US dollars, None where the price is unknown.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None

    def as_info(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        tokens = self.prompt_tokens + self.completion_tokens
        cost = "price unknown" if self.cost is None else "free" if not self.cost else f"about ${self.cost:.2g}"
        return f"up to about {self.calls:,} LM calls, {tokens:,} tokens, {cost}"


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Numbers of examples, of LM steps, and of programs where an optimizer takes several."""

    train: int
    val: int
    steps: int
    options: Mapping[str, Any]
    programs: int = 1

    def get(self, name: str, default: int) -> int:
        value = self.options.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def bootstraps(self, sets: int = 1) -> int:
        """Program runs that look for demos: each set ends when it has enough, at the latest with the trainset."""
        return sets * min(self.train, 2 * self.get("max_bootstrapped_demos", 4)) * self.get("max_rounds", 1)


def estimate_study(plan: StudyPlan, client: Any, steps: int = 1) -> StudyEstimate:
    """Estimate a study.

    Args:
        plan: What it will do.
        client: Whose price it is.
        steps: LM calls of one run of the program.
    """
    from dspex_nb.bridge.splitting import split

    train, val = split(plan.optimizer, plan.trainset, plan.valset, plan.options)
    programs = len(plan.program) if isinstance(plan.program, Sequence) else 1
    sizes = _Sizes(len(train), len(val or train), max(steps, 1), plan.options, programs)
    runs, proposals = _counts(plan.optimizer, sizes)
    calls = runs * sizes.steps + proposals
    prompt, answer = _tokens(plan, val or train)
    prompt_tokens = runs * sizes.steps * prompt + proposals * _PROPOSAL_TOKENS
    completion_tokens = runs * sizes.steps * answer + proposals * _PROPOSAL_TOKENS // 3
    price = getattr(client, "_price", None)
    cost = None if price is None else price(Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens), {})
    return StudyEstimate(calls, prompt_tokens, completion_tokens, cost)


def _counts(optimizer: str, sizes: _Sizes) -> tuple[int, int]:
    """Return runs of the program, and LM calls that propose; the scoring of start and result among the runs."""
    if optimizer == "BetterTogether":
        return _together(sizes)
    count = _COUNTS.get(optimizer)
    return count(sizes) if count is not None else (2 * sizes.val, 0)


def _random_search(s: _Sizes) -> tuple[int, int]:
    sets = s.get("num_candidate_programs", 16)
    return (sets + 3) * s.val + s.bootstraps(sets + 1), 0


def _mipro(s: _Sizes) -> tuple[int, int]:
    auto = s.options.get("auto", None if {"num_candidates", "num_trials"} & s.options.keys() else "light")
    candidates = _AUTO.get(auto, 0) or s.get("num_candidates", 6)
    trials = s.get("num_trials", 0) or int(max(4 * s.steps * math.log2(max(candidates, 2)), 1.5 * candidates))
    val = min(s.val, _AUTO_VALSET[auto]) if auto in _AUTO_VALSET else s.val
    partly = val > _MIPRO_MINIBATCH if auto else s.options.get("minibatch", True)
    full = trials // s.get("minibatch_full_eval_steps", _FULL_EVERY) + 2
    scored = trials * s.get("minibatch_size", _MINIBATCH) + full * val if partly else (trials + 1) * val
    return scored + s.bootstraps(candidates), 10 + s.steps * (candidates + 2)


def _gepa(s: _Sizes) -> tuple[int, int]:
    runs = s.get("max_metric_calls", 0) or s.get("max_full_evals", 0) * (s.train + s.val)
    if not runs:
        candidates = _AUTO.get(s.options.get("auto", "light"), 6)
        trials = int(max(4 * s.steps * math.log2(candidates), 1.5 * candidates))
        runs = s.val + candidates * 5 + trials * _MINIBATCH + (trials // _FULL_EVERY + 2) * s.val
    return runs + s.val, runs // (2 * s.get("reflection_minibatch_size", 3)) + 1


def _simba(s: _Sizes) -> tuple[int, int]:
    size, candidates, rounds = s.get("bsize", 32), s.get("num_candidates", 6), s.get("max_steps", 8)
    return rounds * size * (2 * candidates + 1) + (candidates + 1) * s.train + 2 * s.val, rounds * (candidates + 1)


def _copro(s: _Sizes) -> tuple[int, int]:
    breadth, depth = s.get("breadth", 10), s.get("depth", 3)
    return (breadth * depth * s.steps) * s.train + 2 * s.val, breadth * depth * s.steps


def _avatar(s: _Sizes) -> tuple[int, int]:
    rounds = s.get("max_iters", 10)
    return (rounds * s.train + 2 * s.val) * 3, 2 * rounds


def _together(s: _Sizes) -> tuple[int, int]:
    runs, proposals = s.val, 0
    for step in str(s.options.get("strategy", "p -> w -> p")).split(" -> "):
        told = s.options.get(step)
        options = told if isinstance(told, Mapping) else {"optimizer": told or "BootstrapFewShotWithRandomSearch"}
        one = _counts(str(options["optimizer"]), _Sizes(s.train, s.val, s.steps, options))
        runs, proposals = runs + one[0] + s.val, proposals + one[1]
    return runs, proposals


_COUNTS: Mapping[str, Callable[[_Sizes], tuple[int, int]]] = {
    "BootstrapFewShot": lambda s: (2 * s.val + s.bootstraps(), 0),
    "BootstrapFewShotWithRandomSearch": _random_search,
    "BootstrapFewShotWithOptuna": lambda s: ((s.get("num_candidate_programs", 16) + 1) * s.val + s.bootstraps(), 0),
    "KNNFewShot": lambda s: (s.val * (2 + s.get("k", 3)), 0),
    "COPRO": _copro,
    "MIPROv2": _mipro,
    "MIPRO": _mipro,
    "SIMBA": _simba,
    "GEPA": _gepa,
    "InferRules": lambda s: ((s.get("num_candidates", 10) + 1) * s.val + s.bootstraps(), s.get("num_candidates", 10) * s.steps),
    "Ensemble": lambda s: ((s.programs + min(s.get("size", s.programs), s.programs)) * s.val, 0),
    "BootstrapFinetune": lambda s: (s.train + 2 * s.val, 0),
    "AvatarOptimizer": _avatar,
}


def _tokens(plan: StudyPlan, rows: Sequence[Any]) -> tuple[int, int]:
    """Return tokens of a prompt with its demos and of an answer, from the lengths of the first rows."""
    some = [dict(row.items()) for row in rows[:50]]
    if not some:
        return _FRAME_TOKENS, _FRAME_TOKENS // 3
    whole = sum(len(str(value)) for row in some for value in row.values()) / len(some)
    asked = sum(len(str(row[name])) for row in some for name in plan.inputs if name in row) / len(some) or whole / 2
    demos = sum(value for value in map(plan.options.get, ("k", "max_labeled_demos", "max_demos")) if isinstance(value, int))
    demos = demos or (8 if "FewShot" in plan.optimizer or "MIPRO" in plan.optimizer else 0)
    letters = asked + demos * whole
    return int(letters / _LETTERS_A_TOKEN) + _FRAME_TOKENS, int((whole - asked) / _LETTERS_A_TOKEN) + _FRAME_TOKENS // 6
