"""`dx.retrievers`: which kinds of retriever there are. `dx.retriever` itself is a constructor of steps, in `pipelines`."""

from __future__ import annotations

from typing import Any

from dspex_nb.retrieval import table


def retrievers() -> Any:
    """Return the kinds of retriever as a DataFrame: `name`, `extra`, `features`, `installed`, `label`.

    `label` says what was shown of a store: `live`, `wire` or `import-only`, as docs/retrievers.md explains.
    """
    import pandas as pd

    return pd.DataFrame(table())
