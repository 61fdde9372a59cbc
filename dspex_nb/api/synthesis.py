"""`dx.synthesize`: training examples that the model writes: checked, none twice, each saying where it is from."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dspex_nb.api.displays import ShownOnce, Watch, show
from dspex_nb.api.lms import client_of
from dspex_nb.api.mapping import recorded
from dspex_nb.api.programs import lm_width
from dspex_nb.api.sessions import session
from dspex_nb.api.signatures import as_signature
from dspex_nb.datasets import rows_of
from dspex_nb.errors import Cancelled, DataError
from dspex_nb.examples import Example
from dspex_nb.runs.synthesis import Dropped, Synthesizer, Tally, seeds_of
from dspex_nb.scopes import Scope, new_run_id
from dspex_nb.signatures import Signature
from dspex_nb.views import ProgressState, SynthesisInfo, synthesis_html, synthesis_text


class Synthesized(list[Example], ShownOnce):
    """The examples that `dx.synthesize` made: a list for `dx.evaluate` and `dx.optimize`, which also says how it came about.

    Attributes:
        info: The counts: asked, kept, invalid, duplicates.
        dropped: The answers that became no example, each with `values`, `kind` and `reason`.
    """

    def __init__(self, examples: Iterable[Example], info: SynthesisInfo, dropped: Iterable[Dropped]) -> None:
        super().__init__(examples)
        self.info, self.dropped = info, list(dropped)

    @property
    def note(self) -> str:
        """Why there are fewer examples than asked for, empty if there are not."""
        return self.info.note

    def to_frame(self) -> Any:
        """Return a DataFrame, a row an example: its fields, and where it is from (`model`, `key`, `seeds`, `round`)."""
        import pandas as pd

        rows = []
        for one in self:
            made = one.provenance
            facts = {} if made is None else {"model": made.model, "key": made.key, "seeds": list(made.seeds), "round": made.round}
            rows.append({**{f"from_{name}" if name in one else name: value for name, value in facts.items()}, **dict(one)})
        return pd.DataFrame(rows, columns=_columns(rows, self.info.fields))

    def show(self) -> None:
        """Display the counts and the examples."""
        show(synthesis_html(self.info), synthesis_text(self.info))

    def __repr__(self) -> str:
        return f"Synthesized({len(self)} of {self.info.wanted} examples of {self.info.name!r}, {self.info.asked} asked)"


def _columns(rows: list[dict[str, Any]], fields: Iterable[str]) -> list[str]:
    first = list(fields)
    return [*first, *(name for name in (rows[0] if rows else ()) if name not in first)]


def synthesize(
    signature: Any,
    n: int = 10,
    seeds: Any = (),
    *,
    instructions: str = "",
    lm: Any = None,
    temperature: float = 0.7,
    max_similarity: float = 0.9,
    balance: bool = True,
    seed: int = 0,
    n_jobs: int | None = None,
    max_calls: int | None = None,
    on_progress: Any = None,
) -> Synthesized:
    """Return up to `n` new training examples of a signature, written by the model; a notebook shows them as they come.

    They are asked for in rounds until there are enough. Each is checked against the signature (types, Literals, bounds, nothing
    empty), and dropped where its inputs equal or nearly equal those of a seed or another. It ends early, and says so, when 16
    answers in a row bring nothing new. What a model writes may be wrong: read the examples before you train or test on them.

    Args:
        signature: A signature, its string form, a `dspy.Signature` class, or a predictor that has one.
        n: How many.
        seeds: A few examples to go by: dicts, examples, a DataFrame, or a file's path. None are needed; some help much.
        instructions: More to tell the model, e.g. whom the examples are about.
        lm: A `dx.LM` or a model string; by default the session's.
        temperature: Of the sampling.
        max_similarity: From which likeness of the inputs, 0 to 1, two examples count as one.
        balance: Tell the model each label of few values in turn (Literal, bool, enum), so that they come out even.
        seed: Of the sampling, and of the choice of the seeds that a prompt shows. The same call again is answered from the cache,
            another seed gives other examples.
        n_jobs: Calls in flight; None and -1 mean the LM's `max_concurrency`.
        max_calls: The most answers to ask for; by default 5 times `n`, and 20.
        on_progress: Called with each event.

    Raises:
        DataError: `n` is less than 1, or a seed does not fit the signature.
        LMError: The model cannot be asked.
        Cancelled: The user stopped it; run again, it goes on from the cache.
    """
    now = session()
    now = replace(now, lm=client_of(lm) or now.lm)
    now.require_lm()
    wanted = _signature_of(signature)
    if instructions:
        wanted = wanted.append_instructions(instructions)
    if n < 1:
        raise DataError(f"n={n!r} examples cannot be made", hint="ask for 1 or more")
    scope = Scope(new_run_id(), now.bus)
    maker = Synthesizer(
        wanted, _checked(wanted, seeds), session=now, scope=scope, temperature=temperature, max_similarity=max_similarity,
        balance=balance, seed=seed,
    )  # fmt: skip
    view = _View(wanted, n, scope, maker.tally)
    draws = (lambda: synthesis_html(view.info()), lambda: synthesis_text(view.info()))
    with Watch(scope, None, *draws, on_progress=on_progress, actions={"cancel": scope.cancel.cancel}) as watch:
        try:
            with recorded(scope, wanted.name, "synthesis", n):
                tally = maker.run(n, n_jobs=lm_width(now, n_jobs), max_calls=max_calls or max(5 * n, 20))
            view.end("done" if len(tally.kept) == n else "stopped")
        except (Cancelled, KeyboardInterrupt):
            view.end("cancelled")
            raise Cancelled(
                f"synthesis of {wanted.name!r} stopped: {len(maker.tally.kept)} of {n} examples were made",
                hint="run the same call again: answers already received come from the cache",
            ) from None
        except BaseException:
            view.end("failed")
            raise
        made = Synthesized(tally.kept, view.info(), tally.dropped)
    if watch.live:
        made.mark_shown()
    return made


class _View:
    """What the display draws, at any moment."""

    def __init__(self, signature: Signature, n: int, scope: Scope, tally: Tally) -> None:
        self.signature, self.n, self.tally = signature, n, tally
        self.state = ProgressState(run_id=scope.run_id, title=signature.name)
        self.status = "running"
        self._unsubscribe = scope.bus.subscribe(self.state.apply)
        self._started, self._took = time.perf_counter(), 0.0

    def end(self, status: str) -> None:
        """Count no further."""
        self._unsubscribe()
        self.status, self._took = status, time.perf_counter() - self._started

    def info(self) -> SynthesisInfo:
        """Return the counts now."""
        tally, spent, dropped = self.tally, self.state.snapshot(), list(self.tally.dropped)
        counts = Counter(one.kind for one in dropped)
        return SynthesisInfo(
            name=self.signature.name,
            wanted=self.n,
            status=self.status,
            asked=tally.asked,
            invalid=counts["invalid"],
            duplicates=counts["duplicate"],
            near=counts["near duplicate"],
            failed=counts["failed"],
            rounds=tally.rounds,
            reasons=Counter(_short(one) for one in dropped).most_common(),
            fields=tuple(self.signature.fields),
            examples=[dict(one) for one in tally.kept],
            calls=spent.calls,
            cache_hits=spent.cache_hits,
            cost=spent.cost,
            elapsed_s=self._took or time.perf_counter() - self._started,
            note=tally.note,
        )


def _short(one: Dropped) -> str:
    return f"{one.kind}: {one.reason}" if one.kind in ("invalid", "failed") else one.kind


def _signature_of(value: Any) -> Signature:
    own = getattr(value, "base_signature", None) or getattr(value, "signature", None)
    return as_signature(own if own is not None and not isinstance(value, Signature | type | str) else value)


def _checked(signature: Signature, seeds: Any) -> list[Example]:
    found = []
    for at, example in seeds_of(signature, rows_of(seeds)):
        if isinstance(example, str):
            raise DataError(
                f"seed {at} is no example of {signature.name}: {example}", hint="give every field, as the signature has it"
            )
        found.append(example)
    return found
