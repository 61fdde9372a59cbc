"""The magics: one file each; this one registers them, their completion, and how results are shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dspex_nb import api
from dspex_nb.errors import DSPexError
from dspex_nb.magics import dspex, evaluate, optimize, pipeline, signature
from dspex_nb.magics.completion import Completions
from dspex_nb.predictions import Prediction
from dspex_nb.signatures import Signature
from dspex_nb.views import prediction_html, prediction_text
from dspex_nb.views.media_views import media_html

_CELL = {"signature": signature, "pipeline": pipeline}
_LINE_CELL = {"evaluate": evaluate, "optimize": optimize}
_LINE = {"dspex": dspex}
_AS_TYPED = "_ipython_magic_no_var_expand"  # IPython leaves the line of a magic so marked as it was typed


def register(shell: Any) -> None:
    """Add the magics, their tab completion and the formatters to an IPython shell; a second time replaces them."""
    for kind, magics in (("cell", _CELL), ("line_cell", _LINE_CELL), ("line", _LINE)):
        for name, module in magics.items():
            shell.register_magic_function(_bound(shell, module, kind), magic_kind=kind, magic_name=name)
    # `%pipeline --help` and `%signature --help` are what people try; as line magics they only explain themselves.
    for name, module in _CELL.items():
        shell.register_magic_function(_bound(shell, module, "line"), magic_kind="line", magic_name=name)
    _complete(shell)
    _format(shell)


def _bound(shell: Any, module: ModuleType, kind: str) -> Callable[..., Any]:
    def magic(line: str, cell: str | None = None) -> Any:
        return module.run(shell, line, cell)

    setattr(magic, _AS_TYPED, not module.USAGE.expands)
    magic.__doc__ = f"{module.USAGE.help_text()}\n"
    if kind != "line":
        return magic
    line_magic = lambda line: magic(line)  # noqa: E731, PLW0108 - IPython looks at the parameters: a line magic has one
    line_magic.__doc__ = magic.__doc__
    setattr(line_magic, _AS_TYPED, not module.USAGE.expands)
    return line_magic


def _complete(shell: Any) -> None:
    usages = {name: module.USAGE for name, module in {**_CELL, **_LINE_CELL, **_LINE}.items()}
    values = {
        "evaluate:0": _names_with("__call__"),
        "optimize:0": _names_with("__call__"),
        "evaluate:data": _names_of_rows,
        "pipeline:map": _names_of_rows,
        "optimize:trainset": _names_of_rows,
        "optimize:valset": _names_of_rows,
        "evaluate:metrics": _metric_names,
        "evaluate:compare": _evaluations,
        "optimize:metric": _metric_names,
        "optimize:optimizer": lambda _: api.optimizer_names(),
        "dspex:0": lambda _: list(dspex.COMMANDS),
        "dspex:1": lambda _: ["local", "openai/", "anthropic/", "gemini/", "ollama_chat/"],
    }
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != "dspex_nb.options"]
    matchers.append(Completions(shell, usages, values, {"optimize": _optimizers_own}).matcher())


def _optimizers_own(words: list[str]) -> list[str]:
    """Return the options of the optimizer that the words name; none where it is misspelt or not installed."""
    named = next((word for flag, word in itertools.pairwise(words) if flag == "--optimizer"), "")
    try:
        return [name.replace("_", "-") for name in api.optimizer_options(named)] if named else []
    except DSPexError:
        return []


def _public(shell: Any) -> dict[str, Any]:
    return {name: value for name, value in shell.user_ns.items() if not name.startswith("_")}


def _names_with(attribute: str) -> Callable[[Any], list[str]]:
    kinds = (api.Pipeline, api.Predict, api.ChainOfThought)
    return lambda shell: [
        name
        for name, value in _public(shell).items()
        if isinstance(value, kinds) or (hasattr(value, "named_predictors") and hasattr(value, attribute))
    ]


def _names_of_rows(shell: Any) -> list[str]:
    return [name for name, value in _public(shell).items() if isinstance(value, list | tuple) or hasattr(value, "columns")]


def _evaluations(shell: Any) -> list[str]:
    return [name for name, value in _public(shell).items() if isinstance(value, api.Evaluation)]


def _metric_names(shell: Any) -> list[str]:
    own = [name for name, value in _public(shell).items() if callable(value) and hasattr(value, "__code__")]
    return [*api.metric_names(), *own]


def _format(shell: Any) -> None:
    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type(Prediction, prediction_html)
    formatters["text/plain"].for_type(Prediction, lambda value, printer, _: printer.text(prediction_text(value)))
    formatters["text/html"].for_type(Signature, lambda value: api.signature_bundle(value)[0])
    formatters["text/plain"].for_type(Signature, lambda value, printer, _: printer.text(api.signature_bundle(value)[1]))
    for kind in ("Image", "Audio", "File"):  # what `dx.image` and its kin return; by name, for DSPy may never be loaded
        formatters["text/html"].for_type_by_name(f"dspy.adapters.types.{kind.lower()}", kind, media_html)
