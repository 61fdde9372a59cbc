"""`dx.load`: read back what was saved."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from dspex_nb.api.pipelines import Pipeline
from dspex_nb.errors import DataError


def load(path: str | Path, *, trust: bool = False) -> Any:
    """Return the pipeline that `Pipeline.save` wrote.

    A saved pipeline is Python, so that it can be read, compared and mended; reading it back runs it.

    Args:
        path: A `.py` file.
        trust: Say True once you have looked at the file: it is run.

    Raises:
        DataError: There is no such file, it is not trusted, or it holds no pipeline.
    """
    source = Path(path)
    if not source.exists():
        raise DataError(f"no file {str(source)!r}", hint="save one with pipeline.save('support.py')")
    if not trust:
        raise DataError(f"{source.name} is Python and would be run", hint=f"look at it, then dx.load({str(path)!r}, trust=True)")
    found = [value for value in runpy.run_path(str(source)).values() if isinstance(value, Pipeline)]
    if not found:
        raise DataError(f"{source.name} holds no pipeline", hint="a saved pipeline defines a variable that is a dx.Pipeline")
    return found[-1]
