"""What a study may spend: read from how people write it, and kept by refusing the request that would go beyond."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from dspex_nb.errors import NotSent, OptimizerError, did_you_mean
from dspex_nb.events import Event, LMCalled
from dspex_nb.pipelines.durations import read_duration
from dspex_nb.store import LMUsage

_HINT = "write e.g. budget='$0.50', '500 calls', '200k tokens', '10 min', or {'dollars': 0.5, 'calls': 500}"
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)\s*(calls?|tokens?)")
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a study; None is no limit.

    Attributes:
        dollars: US dollars of known cost.
        calls: Requests sent; cache hits are free.
        tokens: Prompt and completion tokens together.
        seconds: From its start, or its resumption.
    """

    dollars: float | None = None
    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, given: Any) -> Self | None:
        """Read a number of dollars, a text such as `"$0.50"`, `"500 calls, 10 min"`, or a dict; None for None.

        Raises:
            OptimizerError: It is none of these.
        """
        if given is None or isinstance(given, cls):
            return given
        parts = _of_mapping(given) if isinstance(given, Mapping) else _of_text(given)
        if not parts or any(isinstance(value, bool) or not value > 0 for value in parts.values()):
            raise OptimizerError(f"budget {given!r} is no limit above 0", hint=_HINT)
        return cls(**parts)

    def __str__(self) -> str:
        told = {"dollars": "${:.4g}", "calls": "{} calls", "tokens": "{} tokens", "seconds": "{:.4g} s"}
        values = ((told[one.name], getattr(self, one.name)) for one in fields(self))
        return ", ".join(form.format(value) for form, value in values if value is not None)


def _of_mapping(given: Mapping[str, Any]) -> dict[str, Any]:
    known = {one.name for one in fields(Budget)} | {"minutes"}
    for name in given:
        if name not in known:
            raise OptimizerError(f"a budget has no {name!r}", hint=f"{did_you_mean(name, known)}{_HINT}")
    found = {name: value for name, value in given.items() if value is not None}
    if any(not isinstance(value, int | float) for value in found.values()):
        raise OptimizerError(f"budget {dict(given)!r} holds something that is no number", hint=_HINT)
    if "minutes" in found:
        found["seconds"] = found.pop("minutes") * 60
    return found


def _of_text(given: object) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for text in str(given).lower().split(",") if isinstance(given, str) else [str(given)]:
        part = text.strip()
        count = _COUNT.fullmatch(part)
        try:
            if count:
                parts["tokens" if count[3].startswith("token") else "calls"] = int(float(count[1]) * _TIMES[count[2]])
            elif re.search("[a-z]", part):
                parts["seconds"] = read_duration(part.replace("minutes", "min").replace("minute", "min"))
            else:
                parts["dollars"] = float(part.removeprefix("$").removesuffix("$"))
        except ValueError as error:
            raise OptimizerError(f"budget {given!r} is not understood", hint=_HINT) from error
    return parts


class BudgetGate:
    """Refuses requests once a budget has no room for them; those in flight finish and are kept.

    What a call will cost is not known before its answer: the mean of those so far stands for each in flight.

    Args:
        budget: The limits.
        spent: What the study paid before, where it is resumed.
        on_refused: Called once, with what is used up.
    """

    def __init__(self, budget: Budget, spent: LMUsage, on_refused: Callable[[str], None]) -> None:
        self.budget, self._on_refused = budget, on_refused
        self.reason = ""
        self._lock = threading.Lock()
        self._sent, self._answered = spent.calls + spent.errors, spent.calls
        self._dollars, self._tokens = spent.cost or 0.0, spent.prompt_tokens + spent.completion_tokens
        self._in_flight = 0
        self._ends = None if budget.seconds is None else time.monotonic() + budget.seconds

    def admit(self) -> None:
        """Let a request pass, or raise `NotSent`."""
        with self._lock:
            first = not self.reason
            self.reason = self.reason or self._used_up()
            if not self.reason:
                self._sent += 1
                self._in_flight += 1
                return
        if first:
            self._on_refused(self.reason)
        raise NotSent(self.reason, hint="give the study another budget: study.resume(budget=…)")

    def take(self, event: Event) -> None:
        """Count a call that ended; a subscriber of the study's bus."""
        if not isinstance(event, LMCalled) or event.cached is not None:
            return
        with self._lock:
            self._in_flight = max(0, self._in_flight - 1)
            self._answered += event.error is None
            self._dollars += event.cost or 0.0
            self._tokens += event.prompt_tokens + event.completion_tokens

    def check_time(self) -> None:
        """End the study once its time is over, though it may not be asking."""
        with self._lock:
            if self.reason or self._ends is None or time.monotonic() < self._ends:
                return
            self.reason = self._used_up()
        self._on_refused(self.reason)

    def drain(self, timeout_s: float) -> None:
        """Wait for the calls in flight: they are paid."""
        ends = time.monotonic() + timeout_s
        while self._in_flight and time.monotonic() < ends:
            time.sleep(_POLL_S)

    def _used_up(self) -> str:
        limit, pending = self.budget, self._in_flight + 1
        mean = 1 / max(self._answered, 1)
        if limit.calls is not None and self._sent >= limit.calls:
            return f"the budget of {limit.calls} calls is used up"
        if limit.dollars is not None and self._over(self._dollars, self._dollars * mean * pending, limit.dollars):
            return f"the budget of ${limit.dollars:.4g} is used up"
        if limit.tokens is not None and self._over(self._tokens, self._tokens * mean * pending, limit.tokens):
            return f"the budget of {limit.tokens} tokens is used up"
        if self._ends is not None and time.monotonic() >= self._ends:
            return f"the budget of {limit.seconds:.4g} s is used up"
        return ""

    @staticmethod
    def _over(spent: float, expected: float, limit: float) -> bool:
        return spent >= limit or spent + expected > limit
