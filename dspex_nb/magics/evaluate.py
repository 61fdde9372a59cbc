"""`%evaluate program --data rows`: a score with its interval, a table, a picture."""

from __future__ import annotations

from typing import Any

from dspex_nb import api
from dspex_nb.errors import MagicUsageError
from dspex_nb.magics.arguments import Option, Usage
from dspex_nb.magics.namespace import lookup, lookup_data, lookup_metrics
from dspex_nb.magics.options import merged

USAGE = Usage(
    "%evaluate",
    "Score a program on labelled rows. As %%evaluate, the body defines the function metric(example, prediction, trace=None).",
    ("program",),
    (
        Option("data", "a variable, or the path of a CSV, JSONL or Parquet file", "DATA"),
        Option("metrics", "names (f1, exact_match:field) or your functions, by commas; the first is the score", "A,B"),
        Option("n-jobs", "rows in flight", "N"),
        Option("timeout", "seconds for the whole evaluation", "S"),
        Option("max-errors", "rows that may fail before it stops", "N"),
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
    metrics = [metric] if metric is not None else lookup_metrics(given.get("metrics", "exact_match"), shell.user_ns)
    evaluation = api.evaluate(
        lookup(given.words[0], shell.user_ns, "the program"),
        lookup_data(given.get("data"), shell.user_ns),
        metrics,
        n_jobs=given.number("n_jobs") or None,
        timeout_s=given.number("timeout", float),
        max_errors=given.number("max_errors"),
        name=given.get("name") or given.words[0],
    )
    evaluation.show_once()
    return evaluation
