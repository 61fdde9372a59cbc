"""`dx.load`: read back what was saved."""

from __future__ import annotations

import runpy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dspex_nb.api.pipelines import Pipeline
from dspex_nb.errors import DataError
from dspex_nb.pipelines.restoring import from_saved, read_saved


def load(
    path: str | Path, *, trust: bool = False, modules: Iterable[str] = (), names: Mapping[str, Any] | None = None
) -> Pipeline:
    """Return the pipeline that `Pipeline.save` wrote.

    Reading a `.json` file runs nothing and imports nothing but what is named here: a file may come from anyone. What it may use
    without that are builtins that only compute, DSPy's modules and types, and classes of `datetime` and its like.

    Args:
        path: A `.json` file, or a `.py` file, which is run.
        trust: Say True once you have looked at the file: source in it is run, and modules it names are imported.
        modules: Modules and packages of yours that it may import functions and classes from: `["mypackage"]`.
        names: Objects to use for names in the file, instead of what it says of them: `{"clean": clean}`.

    Raises:
        DataError: There is no such file, it is no pipeline, or it needs what it is not trusted with; nothing of it was run.
        PipelineError: The pipeline in it cannot run.
    """
    source = Path(path)
    if not source.exists():
        raise DataError(f"no file {str(source)!r}", hint="save one with pipeline.save('support.json')")
    if source.suffix == ".py":
        return _run(source, trust=trust)
    return Pipeline.of(from_saved(read_saved(source), file=str(path), trust=trust, modules=modules, names=names))


def _run(source: Path, *, trust: bool) -> Pipeline:
    if not trust:
        raise DataError(
            f"{source.name} is Python and would be run", hint=f"look at it, then dx.load({str(source)!r}, trust=True)"
        )
    found = [value for value in runpy.run_path(str(source)).values() if isinstance(value, Pipeline)]
    if not found:
        raise DataError(f"{source.name} holds no pipeline", hint="a saved pipeline defines a variable that is a dx.Pipeline")
    return found[-1]
