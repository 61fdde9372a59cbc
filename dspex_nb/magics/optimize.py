"""`%optimize program --optimizer NAME`: a study in a child process, with a live dashboard."""

from __future__ import annotations

from typing import Any

from dspex_nb import api
from dspex_nb.errors import MagicUsageError
from dspex_nb.magics.arguments import Option, Usage, unknown_option
from dspex_nb.magics.namespace import literal, lookup, lookup_data, lookup_metrics
from dspex_nb.magics.options import merged

USAGE = Usage(
    "%optimize",
    "Tune a program in a child process; the kernel stays free. Further --options go to the optimizer.",
    ("program",),
    (
        Option("optimizer", "a DSPy optimizer; dx.optimizers() lists them", "NAME"),
        Option("metric", "a name (f1, exact_match:field) or your function", "METRIC"),
        Option("trainset", "a variable or a file", "DATA"),
        Option("valset", "a variable or a file", "DATA"),
        Option("budget", "stop before it is passed: dollars, calls, tokens or minutes", "'500 calls'"),
        Option("seed", "random seed, 0 if not given", "N"),
        Option("n-jobs", "LM calls in flight", "N"),
        Option("name", "title of the study", "TEXT"),
        Option("accelerate", "serve its predictors natively where that gives the same"),
        Option("wait", "return when the study has ended"),
    ),
    "study = %optimize triage --optimizer BootstrapFewShotWithRandomSearch --metric exact_match:desk"
    " --trainset train --valset val",
    extra=True,
)


def run(shell: Any, line: str, cell: str | None) -> Any:
    """Start the study, show its dashboard, and return it."""
    given = USAGE.parse(line)
    if given.get("help"):
        print(USAGE.help_text())  # noqa: T201 - help is asked for
        return None
    given, metric = merged(USAGE, given, cell, shell)
    optimizer = given.get("optimizer", "MIPROv2")
    if given.get("trainset") is None and optimizer != "Ensemble":
        raise MagicUsageError("%optimize needs --trainset", hint=f"write e.g. {USAGE.example}")
    options = {name: literal(value) if isinstance(value, str) else value for name, value in given.extra.items()}
    known = api.optimizer_options(optimizer)
    for name in options:
        if name not in known and optimizer != "BetterTogether":  # which takes any name for an optimizer that it chains
            raise unknown_option(
                "%optimize", name.replace("_", "-"), [*(o.name for o in USAGE.options), *(k.replace("_", "-") for k in known)]
            )
    if metric is None and given.get("metric") is not None:
        metric = lookup_metrics(given.get("metric"), shell.user_ns)[0]
    study = api.optimize(
        lookup(given.words[0], shell.user_ns, "the program"),
        optimizer=optimizer,
        metric=metric,
        trainset=lookup_data(given.get("trainset"), shell.user_ns, "--trainset") if given.get("trainset") is not None else None,
        valset=lookup_data(given.get("valset"), shell.user_ns, "--valset") if given.get("valset") is not None else None,
        budget=given.get("budget"),
        seed=given.number("seed") or 0,
        n_jobs=given.number("n_jobs") or None,
        name=given.get("name") or given.words[0],
        accelerate=bool(given.get("accelerate")),
        **options,
    )
    study.show_once()
    if given.get("wait"):
        study.wait()
    return study
