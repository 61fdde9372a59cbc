"""`%evaluate program --data rows`: a score with its interval, a table, a picture."""

from __future__ import annotations

from typing import Any

from dspex_nb import api
from dspex_nb.errors import MagicUsageError
from dspex_nb.magics.arguments import Arguments, Option, Usage
from dspex_nb.magics.namespace import lookup, lookup_data, lookup_metrics
from dspex_nb.magics.options import merged
from dspex_nb.pipelines.durations import read_duration

USAGE = Usage(
    "%evaluate",
    "Score a program on labelled rows. As %%evaluate, the body defines the function metric(example, prediction, trace=None).",
    ("program",),
    (
        Option("data", "a variable, or the path of a CSV, JSONL or Parquet file", "DATA"),
        Option("metrics", "names (f1, exact_match:field) or your functions, by commas; the first is the score", "A,B"),
        Option("n-jobs", "rows in flight", "N"),
        Option("timeout", "seconds for one example, which then counts as failed (1.5, 30s, 2m)", "S"),
        Option("deadline", "seconds for the whole evaluation; rows not begun by then are marked so", "S"),
        Option("max-errors", "rows that may fail before it stops", "N"),
        Option("resume", "go on with the latest unfinished evaluation of this program, data and metrics, if there is one"),
        Option("compare", "an earlier evaluation to show the result beside", "EVALUATION"),
        Option("save", "write the result as .csv, .jsonl, .parquet or .html", "PATH"),
        Option("name", "title of the view", "TEXT"),
    ),
    "%evaluate triage --data test --metrics exact_match:desk",
)


def run(shell: Any, line: str, cell: str | None) -> Any:
    """Evaluate, show the view, and return the evaluation."""
    given = USAGE.parse(line)
    if given.get("help"):
        print(USAGE.help_text())  # noqa: T201 - help is asked for
        return None
    given, metric = merged(USAGE, given, cell, shell)
    if given.get("data") is None:
        raise MagicUsageError("%evaluate needs --data", hint=f"write e.g. {USAGE.example}")
    earlier = given.get("compare")
    if isinstance(earlier, str):
        earlier = lookup(earlier, shell.user_ns, "--compare")
    if earlier is not None and not isinstance(earlier, api.Evaluation):
        raise MagicUsageError(
            f"--compare takes an evaluation, got a {type(earlier).__name__}", hint="name the result of an %evaluate"
        )
    metrics = [metric] if metric is not None else lookup_metrics(given.get("metrics", "exact_match"), shell.user_ns)
    evaluation = api.evaluate(
        lookup(given.words[0], shell.user_ns, "the program"),
        lookup_data(given.get("data"), shell.user_ns),
        metrics,
        n_jobs=given.number("n_jobs") or None,
        timeout_s=_time(given, "timeout"),
        deadline_s=_time(given, "deadline"),
        max_errors=given.number("max_errors"),
        name=given.get("name") or given.words[0],
        resume=bool(given.get("resume")),
    )
    evaluation.show_once()
    if given.get("save") is not None:
        evaluation.save(given.get("save"))
    if earlier is not None:
        evaluation.compare(earlier).show()
    return evaluation


def _time(given: Arguments, name: str) -> float | None:
    """Return an option as seconds, None where it is not given.

    Raises:
        MagicUsageError: It is no time above 0.
    """
    try:
        return None if given.get(name) is None else read_duration(given.get(name))
    except ValueError as error:
        raise MagicUsageError(f"--{name}: {error}", hint=f"write e.g. --{name} 30 or --{name} 2m") from None
