"""How many calls a step makes, and what they may cost: said before anything runs, so from sizes that are guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_origin

from dspex_nb.ambient import Session
from dspex_nb.messages import Usage
from dspex_nb.pipelines.records import Step
from dspex_nb.routing.capabilities import votes
from dspex_nb.routing.deciding import native_adapter
from dspex_nb.signatures import Signature

INPUT_TOKENS = 150
"""Guessed for an input whose value nobody knows yet."""
ANSWER_TOKENS = 60
"""Guessed for an output of text; a third of it for a number, a choice or a flag, thrice as many for a list or reasoning."""
_LETTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """Calls of one run, retries left out; `str` gives `3`, `1 to 5`, or `1 or more`.

    Attributes:
        least: At least so many.
        most: At most so many; None where there is no telling: a module's own logic, a list of unknown length.
        cost: US dollars of the likely calls (the middle between least and most), None where unknown.
    """

    least: int
    most: int | None
    cost: float | None = None

    def __str__(self) -> str:
        if self.most is None:
            return f"{self.least} or more"
        return str(self.most) if self.least == self.most else f"{self.least} to {self.most}"

    def __bool__(self) -> bool:
        return self.most != 0


def estimate(
    steps: Iterable[Step], session: Session, prefix: str = "", *, many: bool = False, maybe: bool = False
) -> Iterator[tuple[str, Estimate]]:
    """Yield the calls of each step by its name in the plan; `parallel` and inner pipelines leave theirs to what they hold.

    Args:
        steps: The steps.
        session: Whose LM is asked.
        prefix: `"outer/"` inside a pipeline.
        many: Whether all this runs once for each element of a list.
        maybe: Whether it may not run at all.
    """
    for step in steps:
        name = prefix + step.name
        here, chance = many or bool(step.over), maybe or step.when is not None
        yield name, _of(step, session, many=here, maybe=chance)
        if step.kind == "parallel":
            yield from estimate(step.children, session, prefix, many=here, maybe=chance)
        if step.kind == "pipeline":
            yield from estimate(step.callable.steps, session, f"{name}/", many=here, maybe=chance)
        if isinstance(step.on_error, Step):
            yield from estimate([step.on_error], session, prefix, many=here, maybe=True)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Return all calls together."""
    found = list(estimates)
    most = None if any(one.most is None for one in found) else sum(one.most or 0 for one in found)
    costs = [one.cost for one in found]
    cost = None if any(one is None for one in costs) else sum(one for one in costs if one is not None)
    return Estimate(sum(one.least for one in found), most, cost)


def _of(step: Step, session: Session, *, many: bool, maybe: bool) -> Estimate:
    least, most = _calls(step)
    if most == 0:
        return Estimate(0, 0, 0.0)
    if many:
        least, most = 0, None
    each = _cost(step, session)
    cost = None if most is None or each is None else each * (least + most) / 2
    return Estimate(0 if maybe else least, most, cost if each != 0 else 0.0)


def _calls(step: Step) -> tuple[int, int | None]:  # noqa: PLR0911 - one return a kind of step
    options, kind = step.options, step.kind
    if kind in ("predict", "chain_of_thought", "knn"):
        count = int(options.get("n") or 1)
        return count, count
    if kind == "template":
        return (1, 1) if options.get("call") else (0, 0)
    if kind == "multi_chain_comparison":
        count = int(options.get("chains") or 3) + (0 if votes(step) else 1)
        return count, count
    if kind in ("best_of_n", "refine"):
        times = int(options.get("N") or 1)
        return 1, times if kind == "best_of_n" else 2 * times - 1  # between two attempts Refine asks for advice
    if kind == "rlm":  # its code may ask a model too
        return 1, int(options.get("max_iters") or 20) + int(options.get("max_llm_calls") or 50) + 1
    if kind in _ROUNDS:
        rounds = int(options.get("max_iters") or _ROUNDS[kind])
        return 2, rounds + 1
    return (0, None) if kind == "module" else (0, 0)


_ROUNDS = {"react": 20, "react_v2": 20, "program_of_thought": 3, "code_act": 5}
"""DSPy's own numbers of rounds; after them one more call gives the outputs."""


def _cost(step: Step, session: Session) -> float | None:
    """Return what one call may cost: its prompt as it is without the inputs' values; those and the answer are guessed."""
    price = getattr(session.lm, "_price", None)  # what prices the answers; a client of the user's own may have none
    if price is None:
        return None
    found: float | None = price(Usage(prompt_tokens=_prompt_tokens(step, session), completion_tokens=_answer_tokens(step)), {})
    return found


def _prompt_tokens(step: Step, session: Session) -> int:
    signature = step.signature
    if signature is None:
        return INPUT_TOKENS * max(len(step.reads), 1)
    adapter = native_adapter(step.adapter, session)
    demos = step.options.get("demos") or ()
    words = 0 if adapter is None else sum(len(str(one["content"])) for one in adapter.messages(signature, list(demos), {}))
    return words // _LETTERS_A_TOKEN + INPUT_TOKENS * len(signature.inputs)


def _answer_tokens(step: Step) -> int:
    signature = step.signature
    reasoning = 0 if step.kind == "predict" else 3 * ANSWER_TOKENS
    return reasoning + (ANSWER_TOKENS if signature is None else _sizes(signature))


def _sizes(signature: Signature) -> int:
    return sum(_size(one.type) for one in signature.outputs.values())


def _size(kind: Any) -> int:
    if get_origin(kind) in (list, dict, tuple, set) or kind in (list, dict, tuple, set):
        return 3 * ANSWER_TOKENS
    return ANSWER_TOKENS if kind is str or kind is Any else ANSWER_TOKENS // 3
