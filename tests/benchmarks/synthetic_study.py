"""A study that never ran, of any size, as the events that a real one of MIPROv2's or GEPA's kind would have written."""

from __future__ import annotations

import random
from collections.abc import Iterator

from dspex_nb.events import Event, LMCalled, RowScored, RunEnded, RunStarted, TrialEnded, TrialStarted

T0 = 1_790_000_000.0
INSTRUCTIONS = [
    "Route a customer message to the right desk.",
    "Read the message. Name the desk that can solve it, in one word.",
    "You are the first person to read each message of a busy shop. Decide which desk owns the problem:\npayment for money that moved or should have,\nproblem for things that are broken,\npurchase for anything not bought yet.",
    "Think of what the customer wants to happen next, and name the desk that can do it.",
]
MESSAGES = ["My card was charged twice.", "The lamp arrived broken.", "Do you ship to Norway?", "I want my money back, please."]
DESKS = ["payment", "problem", "purchase", "payment"]


def events(
    trials: int,
    examples: int = 20,
    *,
    run_id: str = "s",
    seed: int = 1,
    kind: str = "MIPROv2",
    ended: str = "",
    price: float = 2e-4,
) -> Iterator[Event]:
    """Yield a study's events; `ended` is its last status, empty for one that still runs."""
    dice = random.Random(seed)
    hard = [dice.random() for _ in range(examples)]
    info = {
        "optimizer": kind,
        "metric": "exact_match",
        "options": {"auto": "medium", "seed": seed},
        "valset": examples,
        "model": "openai/gpt-5-mini",
    }
    yield RunStarted(run_id=run_id, at=T0, name="Triage", of="study", total=trials + trials // 4, info=info)
    at, best, strength = T0, 0.0, {0: 0.35}
    scores: dict[int, float] = {}
    for trial in range(trials):
        gepa = kind == "GEPA"
        parent = None if trial == 0 else max(dice.sample(range(trial), min(trial, 4)), key=lambda t: strength[t])
        instruction, demos = dice.randrange(len(INSTRUCTIONS)), dice.randrange(4)
        part = not gepa and trial > 0 and trial % 10 != 0
        if gepa:
            strength[trial] = min(max(strength[parent or 0] + dice.gauss(0.004, 0.06), 0.05), 0.97) if trial else 0.35
        else:
            gain = 0.5 * (1 - 0.5 ** (trial / max(trials / 5, 1)))
            strength[trial] = min(0.3 + 0.09 * instruction + 0.05 * demos + gain * dice.random() * 0.6, 0.97) if trial else 0.35
        chosen = dice.sample(range(examples), max(examples // 3, 1)) if part else range(examples)
        text = INSTRUCTIONS[instruction] + (f"\nMind case {trial % 7}." if gepa else "")
        held = [{"message": MESSAGES[i], "desk": DESKS[i], "augmented": True} for i in range(demos)]
        named = {
            "kind": "start" if trial == 0 else "minibatch" if part else "candidate",
            "label": f"{demos} bootstrapped demos" if demos else "zero-shot", "demos": demos, "bootstrapped": demos,
            "instructions": text, "predictors": {"predict": {"instructions": text, "demos": held}}, "examples": len(chosen),
            "parent": parent,
        }  # fmt: skip
        if not gepa:
            named["params"] = {"0_predictor_instruction": instruction, "0_predictor_demos": demos}
        yield TrialStarted(run_id=run_id, at=at, trial=trial, info=named)
        got = []
        for index in chosen:
            at += 0.08
            failed = dice.random() < 0.004
            right = float(not failed and dice.random() < min(max(strength[trial] * 1.5 - hard[index] * 0.75, 0.0), 1.0))
            got.append(right)
            cached = "disk" if dice.random() < 0.3 else None
            tokens = 120 + 90 * demos + len(text) // 4
            cost = (price * tokens / 200) if price else None
            yield LMCalled(
                run_id=run_id, at=at, model="openai/gpt-5-mini", key=f"{trial:06d}{index:04d}", trial=trial, index=index, cached=cached,
                prompt_tokens=tokens, completion_tokens=14, cost=0.0 if cached else cost, saved=cost if cached else 0.0, elapsed_s=0.6,
                error="LMTimeoutError: no answer within 30 s" if failed else None,
            )  # fmt: skip
            error = "LMTimeoutError: no answer within 30 s" if failed else None
            yield RowScored(
                run_id=run_id, at=at, index=index, trial=trial, scores={"exact_match": right}, error=error, elapsed_s=0.7
            )
        scores[trial] = sum(got) / len(got)
        if not part:
            best = max(best, scores[trial])
        yield TrialEnded(
            run_id=run_id,
            at=at,
            trial=trial,
            score=scores[trial],
            best=best,
            examples=len(chosen),
            elapsed_s=0.08 * len(chosen),
            info=named,
        )
    if ended:
        yield RunEnded(run_id=run_id, at=at, status=ended, elapsed_s=at - T0)
