"""Training examples that a model writes: asked for in rounds, checked against the signature, each different from the others.

A label of few values (a Literal, a bool, an enum) is told to the model, in turn, and it writes an example that has it: so the
labels come out even, and a small model need not judge what it wrote. Everything else it answers itself.
"""

from __future__ import annotations

import enum
import inspect
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args, get_origin

from dspex_nb.ambient import Session
from dspex_nb.errors import AdapterParseError, LMError
from dspex_nb.examples import Example, Provenance
from dspex_nb.messages import Exchange
from dspex_nb.metrics.values import normalize_text
from dspex_nb.modules import Predict
from dspex_nb.runs.mapping import RowResult, map_rows
from dspex_nb.scopes import Scope
from dspex_nb.signatures import MISSING, Field, Signature
from dspex_nb.signatures.codecs import jsonable
from dspex_nb.signatures.signature import rebuild

SHOWN = 3  # seed examples in a prompt
_ROUND, _BARREN = 8, 16


@dataclass(frozen=True, slots=True)
class Dropped:
    """An answer that became no example: what it held, and why not."""

    values: Mapping[str, Any]
    kind: str
    reason: str


@dataclass(slots=True)
class Tally:
    """What became of the answers so far.

    Attributes:
        kept: The examples.
        dropped: The others: `"invalid"`, `"duplicate"`, `"near duplicate"` or `"failed"` (the model could not be asked).
        asked: Answers that came, and calls that failed.
        rounds: How many rounds.
        note: Why it ended before there were enough, empty otherwise.
    """

    kept: list[Example] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    asked: int = 0
    rounds: int = 0
    note: str = ""

    def counts(self) -> Counter[str]:
        """Return how many answers were dropped, by kind."""
        return Counter(one.kind for one in self.dropped)


class Synthesizer:
    """Makes examples of a signature.

    Args:
        signature: What they are examples of.
        seeds: Examples to show, checked against it.
        session: LM, adapter and cache.
        scope: The run it belongs to.
        temperature: Of the sampling.
        max_similarity: From which likeness of the inputs (0 to 1) two examples count as one.
        balance: Whether labels of few values are told to the model in turn.
        seed: Of the choice of seed examples.
    """

    def __init__(
        self,
        signature: Signature,
        seeds: Sequence[Example],
        *,
        session: Session,
        scope: Scope,
        temperature: float = 0.7,
        max_similarity: float = 0.9,
        balance: bool = True,
        seed: int = 0,
    ) -> None:
        self.signature, self.seeds, self.session, self.scope = signature, list(seeds), session, scope
        self.temperature, self.max_similarity, self.seed = temperature, max_similarity, seed
        self.labels = {name: values for name, one in signature.outputs.items() if balance and (values := few_values(one.type))}
        self.number = next(name for name in ("number", "example_number", "n_") if name not in signature.fields)
        self.program = Predict(self._asking())
        self.tally = Tally()
        self._texts = [self._text(example) for example in self.seeds]
        self._numbers = itertools.count()
        self._combinations = list(itertools.product(*self.labels.values()))

    def _asking(self) -> Signature:
        """Return the signature by which the model is asked: labels in, all else out."""
        given = [replace(self.signature.outputs[name], is_input=True) for name in self.labels]
        fields = [Field(self.number, int, "counts the examples"), *given]
        written = [
            *self.signature.inputs.values(),
            *(one for one in self.signature.outputs.values() if one.name not in self.labels),
        ]
        fields += [replace(one, is_input=False, default=MISSING, factory=None) for one in written]
        wanted = ", ".join(one.name for one in written)
        fits = f" It must fit the {' and '.join(self.labels)} that is given." if self.labels else ""
        told = (
            f"Invent one new and realistic example for the task below: {wanted}.{fits}"
            " Let it differ in subject and wording from the examples before.\n"
            f"The task: {self.signature.instructions.strip()}"
        )
        return rebuild(Signature, fields, told, f"New{self.signature.name}")

    def run(self, n: int, *, n_jobs: int, max_calls: int) -> Tally:
        """Ask until there are `n` examples, nothing new comes any more, or `max_calls` answers were taken.

        Raises:
            LMError: The model could not be asked at all in the first round.
            Cancelled: The run was stopped.
        """
        barren, tally = 0, self.tally
        while len(tally.kept) < n:
            size = min(n - len(tally.kept), max(_ROUND, 2 * n_jobs), max_calls - tally.asked)
            if size <= 0:
                tally.note = f"stopped at {max_calls:,} calls (max_calls)"
                break
            tally.rounds += 1
            before = len(tally.kept)
            self._round(size, n_jobs)
            barren = barren + size if len(tally.kept) == before else 0
            if barren >= _BARREN:
                tally.note = f"the last {barren} answers brought nothing new: {self._why()}"
                break
        return tally

    def _why(self) -> str:
        last = Counter(one.kind for one in self.tally.dropped[-_BARREN:])
        most = last.most_common(1)[0][0] if last else ""
        return {
            "invalid": "the answers do not fit the signature; try a larger model, or simpler types",
            "failed": "the model could not be asked; see .dropped",
        }.get(most, "the model repeats itself; give more seeds, a higher temperature or a larger model")

    def _round(self, size: int, n_jobs: int) -> None:
        drafts = [self._draft(next(self._numbers)) for _ in range(size)]
        pool = [self._demo(at) for at in range(len(self.seeds))]
        results: list[RowResult] = map_rows(
            lambda row, scope: self._ask(drafts[row["draft"]], pool, scope),
            [{"draft": at} for at in range(size)],
            n_jobs=n_jobs,
            scope=self.scope,
        )
        errors = [result.error for result in results]
        if self.tally.rounds == 1 and all(isinstance(error, LMError) for error in errors) and errors[0] is not None:
            raise errors[0]
        for draft, result in zip(drafts, results, strict=True):
            self._take(draft, result)

    def _draft(self, number: int) -> _Draft:
        given = dict(zip(self.labels, self._combinations[number % len(self._combinations)], strict=True))
        chosen = random.Random(f"{self.seed} {number}")  # noqa: S311 - which examples are shown guards nothing
        alike = [
            at for at, one in enumerate(self.seeds) if given and all(one.get(name) == value for name, value in given.items())
        ]
        first = [chosen.choice(alike)] if alike else []
        others = [at for at in range(len(self.seeds)) if at not in first]
        shown = chosen.sample(others, min(SHOWN - len(first), len(others)))
        return _Draft(number, given, (*shown, *first))

    def _demo(self, at: int) -> dict[str, Any]:
        """Return a seed as the program shows it."""
        return {self.number: at + 1, **dict(self.seeds[at])}

    def _ask(self, draft: _Draft, pool: Sequence[Mapping[str, Any]], scope: Scope) -> Any:
        def note(exchange: Exchange) -> None:
            draft.keys.append(exchange.key or self.session.lm.key(exchange.request))

        return self.program.call(
            {self.number: len(self.seeds) + draft.number + 1, **draft.given},
            session=self.session,
            scope=replace(scope, trace=note),
            demos=[{**pool[at]} for at in draft.shown],
            temperature=self.temperature,
            rollout_id=self.seed * 1_000_003 + draft.number + 1,  # another seed asks anew
        )

    def _take(self, draft: _Draft, result: RowResult) -> None:
        tally = self.tally
        tally.asked += 1
        if result.error is not None:
            if not isinstance(result.error, LMError | AdapterParseError):  # no answer, but a stop or a fault of ours
                raise result.error
            kind = "failed" if isinstance(result.error, LMError) else "invalid"
            tally.dropped.append(Dropped(draft.given, kind, result.error.message))
            return
        values = {**dict(result.prediction), **draft.given}
        values = {name: values[name] for name in self.signature.fields if name in values}
        kind, reason = self._judge(values)
        if kind:
            tally.dropped.append(Dropped(values, kind, reason))
            return
        key = draft.keys[-1] if draft.keys else ""
        made = Provenance(self.session.lm.model, key, draft.shown, tally.rounds, self.scope.run_id, tuple(draft.given))
        example = Example(values, self.signature.inputs, made)
        self._texts.append(self._text(example))
        tally.kept.append(example)

    def _judge(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """Return why values are no new example, as a kind and a reason; two empty texts if they are."""
        for name, one in self.signature.fields.items():
            fault = fault_of(one, values.get(name, MISSING))
            if fault:
                return "invalid", fault
        text = self._text(values)
        if text in self._texts:
            return "duplicate", "the same inputs as another example, or a seed"
        from rapidfuzz import fuzz, process

        cutoff = 100 * self.max_similarity
        near = process.extractOne(text, self._texts, scorer=fuzz.token_sort_ratio, score_cutoff=cutoff)
        return ("near duplicate", f"{near[1] / 100:.2f} alike: {near[0]:.80}") if near else ("", "")

    def _text(self, values: Mapping[str, Any]) -> str:
        return normalize_text(" ".join(str(jsonable(values[name])) for name in self.signature.inputs if name in values))


@dataclass(frozen=True, slots=True)
class _Draft:
    """An example to ask for: its number, the labels told, the seeds shown, and the keys of the calls it took."""

    number: int
    given: Mapping[str, Any]
    shown: tuple[int, ...]
    keys: list[str] = field(default_factory=list)


def few_values(kind: Any) -> tuple[Any, ...]:
    """Return the values of a type that has few: a Literal's, a bool's, an enum's; none for any other."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if kind is bool:
        return (True, False)
    return tuple(kind) if inspect.isclass(kind) and get_origin(kind) is None and issubclass(kind, enum.Enum) else ()


def fault_of(one: Field, value: Any) -> str:
    """Return what is wrong with a field's value, empty if nothing is: it is missing, empty, of another type, or out of bounds."""
    if value is MISSING:
        return f"{one.name} is missing" if one.required else ""
    if isinstance(value, str) and one.required and not value.strip():
        return f"{one.name} is empty"
    from pydantic import Field as Bounds
    from pydantic import TypeAdapter, ValidationError

    bounds = _bounds(one)
    kind: Any = Annotated[one.type, Bounds(**bounds)] if bounds else one.type
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{one.name}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    except Exception:  # noqa: BLE001 - a type that pydantic does not know was read by its own codec
        return ""
    return ""


def _bounds(one: Field) -> dict[str, Any]:
    names = ("gt", "ge", "lt", "le", "min_length", "max_length", "multiple_of", "pattern")
    return {name: value for name, value in one.rules.items() if name in names}


def seeds_of(signature: Signature, rows: Sequence[Example]) -> Iterator[tuple[int, Example | str]]:
    """Yield each seed as an example of the signature, or what is wrong with it, with its place."""
    for at, row in enumerate(rows):
        faults = (fault_of(one, row.get(name, MISSING)) for name, one in signature.fields.items())
        fault = next(filter(None, faults), "")
        yield at, fault or Example({name: row[name] for name in signature.fields if name in row}, signature.inputs)
