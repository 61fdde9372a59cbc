"""The first code of a supervised child: tie its life to the parent's, then run the module asked for."""

from __future__ import annotations

import runpy
import sys

from dspex_nb.pools import childside


def main() -> None:
    """Run `sys.argv[1]` as `__main__` with the rest as its arguments. Before its imports, which may be slow, watch the parent."""
    childside.prepare()
    module = sys.argv[1]
    sys.argv[:] = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
