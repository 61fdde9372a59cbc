"""The step of `parallel`: its children, however they are written, and how their lists become one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dspex_nb.errors import RetrieverError
from dspex_nb.pipelines.arguments import Argument, BareName, Call, Deferred, Group
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.options import NOT_CHILDREN, OPTIONS, STEP_OPTIONS, unknown_option
from dspex_nb.pipelines.retrieving import PASSAGES

_As = Callable[[Argument], StepDraft | None]
_Label = Callable[[StepDraft], str]


def parallel_step(call: Call, as_draft: _As, label_of: _Label) -> StepDraft:
    """Return the step that runs its children at once and writes one field: a dict by label, or what `merge=` makes of it.

    Raises:
        PipelineSyntaxError: No child, one that is no step, or two of one label.
        PlanError: A keyword that is no option and that no child reads.
    """
    children = dict(_children(call, as_draft, label_of))
    keywords: dict[str, Argument] = {}
    for name, argument in call.keywords.items():
        child = None if name in NOT_CHILDREN else as_draft(argument)
        if child is None:
            keywords[name] = argument
        else:
            _add(children, name, child, argument)
    if not children:
        raise call.place.syntax_error(
            "parallel(...) has no step in it", 'write e.g. parallel(tone=predict("message -> tone"), words=count_words)'
        )
    settings = {name: argument for name, argument in keywords.items() if name in STEP_OPTIONS}
    options = {name: argument for name, argument in keywords.items() if name in OPTIONS["parallel"]}
    if "k" in options and "merge" not in options:
        raise options["k"].place.plan_error("parallel(...) without merge= gives a dict, which k= cannot cut", 'add merge="rrf"')
    if "weights" in options and ("merge" not in options or options["merge"].user not in ("rrf", "weighted")):
        told = "weights= say how much each child counts in a merge"
        raise options["weights"].place.plan_error(told, 'add merge="rrf" or merge="weighted"')
    if "weights" in options:
        _check_weights(options["weights"], list(children))
    made = StepDraft("parallel", "parallel", gives=_gives(children, options), settings=settings, options=options,
                     children=tuple(children.items()), place=call.place)  # fmt: skip
    for name, argument in keywords.items():
        if name not in settings and name not in options:
            bound = made.with_binding(name, argument)
            if bound is None:
                fields = sorted({field_ for _, child in made.children for field_ in child.parameters.names})
                raise unknown_option(call, name, fields, OPTIONS["parallel"])
            made = bound
    return made


def _check_weights(weights: Argument, labels: list[str]) -> None:
    from dspex_nb.retrieval.merging import weights_of

    if weights.user is None or isinstance(weights.user, Deferred):
        return
    try:
        weights_of(weights.user, labels)
    except RetrieverError as error:
        raise weights.place.plan_error(error.message, error.hint) from None


def _children(call: Call, as_draft: _As, label_of: _Label) -> Iterator[tuple[str, StepDraft]]:
    """Yield the children given by position, in lists and in dicts."""
    children: dict[str, StepDraft] = {}
    for written, argument in _flat(call.args):
        child = as_draft(argument)
        if child is None:
            found = f"the name {argument.value.name!r}" if isinstance(argument.value, BareName) else "a value"
            raise argument.place.syntax_error(
                f"parallel(...) takes steps, found {found}",
                'write constructors or functions: parallel(predict("message -> tone"), detect_language)',
            )
        label = written or next(name for name in _numbered(label_of(child)) if name not in (*children, *NOT_CHILDREN))
        _add(children, label, child, argument)
    yield from children.items()


def _flat(args: tuple[Argument, ...]) -> Iterator[tuple[str | None, Argument]]:
    for argument in args:
        value = argument.user
        if isinstance(value, Group):
            yield from value.items
        elif isinstance(value, list | tuple):  # of plain Python: dx.parallel([…])
            yield from ((None, Argument(item, argument.place)) for item in value)
        elif isinstance(value, Mapping):
            yield from ((_label(key, argument), Argument(item, argument.place)) for key, item in value.items())
        else:
            yield None, argument


def _label(key: Any, argument: Argument) -> str:
    if not isinstance(key, str) or not key.isidentifier():
        raise argument.place.syntax_error(
            f"the label {key!r} is no name", 'write e.g. parallel({"tone": predict("message -> tone")})'
        )
    return key


def _add(children: dict[str, StepDraft], label: str, child: StepDraft, argument: Argument) -> None:
    if label in NOT_CHILDREN:
        raise argument.place.syntax_error(f"the label {label!r} is an option of parallel(...)", "call the child something else")
    if label in children:
        raise argument.place.syntax_error(
            f"parallel(...) has two children named {label!r}", "give each a name of its own: tone=predict(...)"
        )
    children[label] = child


def _gives(children: Mapping[str, StepDraft], options: Mapping[str, Argument]) -> Any:
    if "merge" not in options:
        return dict
    if not isinstance(options["merge"].user, str):
        return Any
    given = [child.gives if child.outputs is None else next(iter(child.outputs.values()), Any) for child in children.values()]
    return given[0] if all(one == given[0] for one in given) and given[0] is not Any else PASSAGES if PASSAGES in given else list


def _numbered(label: str) -> Iterator[str]:
    yield label
    number = 2
    while True:
        yield f"{label}_{number}"
        number += 1
