"""`%%pipeline name`: declare a pipeline in a cell, bind it, show it, and run it if asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspex_nb import api
from dspex_nb.api.displays import in_notebook
from dspex_nb.errors import MagicUsageError
from dspex_nb.magics.arguments import Arguments, Option, Usage
from dspex_nb.magics.namespace import lookup_data, typed
from dspex_nb.pipelines import read_cell

USAGE = Usage(
    "%%pipeline",
    "Declare a pipeline: inputs, steps, directives. Binds the name; runs it with --inputs or --map.\n\n"
    "Inputs:      name: type, or name: type = default\n"
    "Steps:       name = my_function, native(fn), predict(Signature), chain_of_thought('a -> b'), template('… {{ field }}'),\n"
    "             parallel(x=…, y=…), retriever('bm25', index=…), rerank(…), respond(…), reduce(fn, over=…), react(…),\n"
    "             any dspy.Module, another pipeline, a tuned program\n"
    "             A signature's step writes its outputs; any other writes one field named after the step.\n"
    "Directives:  cache(ttl='1h'), retry(2), on_error('skip')",
    ("name",),
    (
        Option("inputs", "run on these inputs and show the run live", "a=1 b=2 …", many=True),
        Option("map", "run on every row and show the table", "DATA"),
        Option("n-jobs", "rows in flight with --map", "N"),
        Option("plan", "show the routes and why; run nothing"),
        Option("background", "return at once; the view goes on, with a Stop button"),
        Option("wait", "wait for the run (the default)"),
        Option("export", "write the pipeline as plain Python", "FILE"),
        Option("redraw", "show the picture again after the run"),
        Option("quiet", "bind it without showing the picture"),
    ),
    "%%pipeline support --inputs message='My card was charged twice'\nmessage: str\n"
    "triage = predict(\"message -> desk: Literal['billing', 'tech', 'sales']\")",
    expands=False,  # --inputs x={variable} hands over the value itself
)


def run(shell: Any, line: str, cell: str | None) -> Any:
    """Read the cell, bind the pipeline, do what the options ask."""
    given = USAGE.parse(line)
    if given.get("help") or cell is None:
        print(USAGE.help_text())  # noqa: T201 - help is asked for
        return None
    name = USAGE.name_of(given)
    pipeline = api.Pipeline.of(read_cell(name, cell, shell.user_ns))
    pipeline.plan()  # an engine that cannot serve a step, a pool that is not there: refused now, not at the first call
    shell.user_ns[name] = pipeline
    _check_together(given)
    if given.get("export"):
        target = typed(given.get("export"), str, shell.user_ns)
        print(f"written: {pipeline.save(Path(target))}")  # noqa: T201 - the answer to --export
    if given.get("plan"):
        return pipeline  # its display shows the routes and why
    if given.get("map"):
        rows = typed(given.get("map"), str, shell.user_ns)
        return pipeline.map(lookup_data(rows, shell.user_ns, "--map"), n_jobs=given.number("n_jobs") or None)
    if given.get("inputs"):
        return _run(pipeline, given, shell)
    return None if given.get("quiet") else pipeline


def _check_together(given: Arguments) -> None:
    """Refuse options of which one would be ignored."""
    if given.get("wait") and given.get("background"):
        raise MagicUsageError(
            "--wait and --background exclude each other", hint="leave one out; a cell waits unless told otherwise"
        )
    for other in ("inputs", "background"):
        if given.get("map") and given.get(other) and not given.get("plan"):
            hint = (
                "run the one, then the other" if other == "inputs" else "leave it out: ■ stops the map, and the same cell goes on"
            )
            raise MagicUsageError(f"--map and --{other} exclude each other", hint=hint)
    if given.get("background") and not (given.get("inputs") or given.get("plan")):
        raise MagicUsageError(
            "--background needs --inputs, what to run on", hint="write e.g. --background --inputs message='Hello'"
        )


def _run(pipeline: Any, given: Arguments, shell: Any) -> Any:
    inputs, kinds = {}, {one.name: one.type for one in pipeline.spec.inputs}
    for pair in given.get("inputs"):
        key, equals, text = pair.partition("=")
        if not equals:
            raise MagicUsageError(
                f"--inputs takes name=value, got {pair!r}", hint="write e.g. --inputs message='My card was charged twice'"
            )
        try:
            inputs[key] = typed(text, kinds.get(key), shell.user_ns)
        except MagicUsageError as error:
            raise MagicUsageError(f"--inputs {key}: {error.message}", hint=error.hint) from None
    started = pipeline.run(**inputs)
    if given.get("background") or in_notebook():  # elsewhere nothing can be live, and the result says it all
        started.show()
    if given.get("background"):
        shell.user_ns[f"{pipeline.name}_run"] = started
        return None
    result = started.result()
    if given.get("redraw"):
        pipeline.display()
    return result
