"""`to_python`: a pipeline as plain Python of the dspex_nb library, no magics and no notebook."""

from __future__ import annotations

from typing import Any

from dspex_nb.errors import PipelineError
from dspex_nb.pipelines.records import FieldRef, PipelineSpec, Step
from dspex_nb.pipelines.sources import Sources

_SETTINGS = ("engine", "adapter", "pool", "cache", "timeout_s")


def to_python(spec: PipelineSpec) -> str:
    """Return a Python file that makes the same pipeline; functions of the notebook are included as source.

    Raises:
        PipelineError: Something in the pipeline has no source, such as a module object made in another cell.
    """
    sources = Sources()
    variable = spec.name if spec.name.isidentifier() and spec.name not in ("dx", "dspex_nb") else "pipeline"
    body = _pipeline(spec, sources)
    if variable in sources.names:
        variable = f"{variable}_pipeline"
    return f'"""The pipeline {spec.name!r}, exported by dspex_nb."""\n\n{sources.text()}\n\n{variable} = {body}\n'


def _pipeline(spec: PipelineSpec, sources: Sources) -> str:
    lines = [f"dx.Pipeline(\n    {spec.name!r},"]
    for step in spec.steps:
        if step.name in ("inputs", "name", "self"):
            raise PipelineError(f"a step called {step.name!r} cannot be a keyword of dx.Pipeline", hint="rename the step")
        lines.append(f"    {step.name}={_step(step, spec, sources)},")
    declared = [one for one in spec.inputs if one.declared]
    if declared:
        inside = ", ".join(f"{one.name!r}: {_input(one, sources)}" for one in declared)
        lines.append(f"    inputs={{{inside}}},")
    return "\n".join([*lines, ")"])


def _input(one: Any, sources: Sources) -> str:
    written = sources.type(one.type, f"input {one.name!r}")
    return written if one.required else f"({written}, {sources.value(one.default, f'input {one.name!r}')})"


def _step(step: Step, spec: PipelineSpec, sources: Sources) -> str:
    if (
        step.kind == "pipeline"
        and not _settings(step, spec, sources)
        and not any(_says(step, *one, spec) for one in step.bindings.items())
    ):
        return _pipeline(step.callable, sources).replace("\n", "\n    ")
    args, constructor = _first(step, spec, sources)
    args += [
        f"{name}={_binding(step, name, value, spec, sources)}"
        for name, value in step.bindings.items()
        if _says(step, name, value, spec)
    ]
    if step.kind != "module" or not _made_here(step):
        args += [
            f"{name}={sources.value(value, _of(step, name), step.sources.get(name, ''))}" for name, value in step.options.items()
        ]
    return f"dx.{constructor}({', '.join([*args, *_settings(step, spec, sources)])})"


def _of(step: Step, name: str) -> str:
    return f"step {step.name!r}, {name}="


def _first(step: Step, spec: PipelineSpec, sources: Sources) -> tuple[list[str], str]:
    """Return the arguments that say what runs, and the constructor's name."""
    where = f"step {step.name!r}"
    if step.kind == "parallel":
        return [f"{child.label}={_step(child, spec, sources)}" for child in step.children], "parallel"
    if step.kind == "template":
        return [sources.value(step.callable, where)], "template"
    signature = [] if step.signature is None else [sources.signature(step.signature, where)]
    if step.kind == "function":
        return [sources.value(step.callable, where, _lambda_text(step)), *signature], "native"
    if step.kind == "module":
        return [_module(step, sources), *signature], "module"
    if step.kind == "pipeline" or step.callable is not None:
        raise PipelineError(
            f"{where} runs {'another pipeline' if step.kind == 'pipeline' else 'a program of the notebook'}, "
            "which export cannot write here",
            hint="write its steps in this pipeline, or leave its inputs and options to their names and defaults",
        )
    return [_step(child, spec, sources) for child in step.children] or signature, step.kind


def _made_here(step: Step) -> bool:
    return not isinstance(step.callable, type)


def _module(step: Step, sources: Sources) -> str:
    cls = step.callable if isinstance(step.callable, type) else type(step.callable)
    name = sources.named(cls, f"step {step.name!r}")
    if isinstance(step.callable, type):
        return name
    written = step.sources.get("")
    if written is None:
        raise PipelineError(
            f"step {step.name!r} runs a {cls.__name__} object, whose making is not written in the pipeline",
            hint=f"write {step.name} = {cls.__name__}(...) in the cell, so that export can write it too",
        )
    return f"{name}({written})"


def _lambda_text(step: Step) -> str:
    _, found, rest = step.text.partition("lambda")
    if not found:
        return ""
    import ast

    try:
        tree = ast.parse(step.text)
    except SyntaxError:
        return ""
    return next((ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Lambda)), "") if rest else ""


def _says(step: Step, name: str, value: Any, spec: PipelineSpec) -> bool:
    """Return whether a binding must be written: one by the parameter's own name is found again without."""
    if not isinstance(value, FieldRef) or value.keys or value.name != name:
        return True
    at = next(number for number, one in enumerate(spec.steps) if one.name == step.name.partition(".")[0])
    earlier = [one.name for one in spec.steps[:at] if value.name in one.writes]
    later = [one.name for one in spec.steps[at:] if value.name in one.writes and one.name != spec.steps[at].name]
    expected = (earlier or later or [""])[-1]
    return (value.step or "") != expected


def _binding(step: Step, name: str, value: Any, spec: PipelineSpec, sources: Sources) -> str:
    if not isinstance(value, FieldRef):
        return sources.value(value, _of(step, name), step.sources.get(name, ""))
    return _ref(value, spec)


def _ref(value: FieldRef, spec: PipelineSpec) -> str:
    versions = sum(value.name in one.writes for one in spec.steps) + any(one.name == value.name for one in spec.inputs)
    shared = not value.step or (versions == 1 and value.name in spec[value.step].writes)
    plain = value.name if shared or (value.step and value.name in spec[value.step].reads) else f"{value.step}.{value.name}"
    return (
        f"dx.field({f'{value.step}.{value.keys[0]}' if value.keys else plain!r})"
        if not value.keys
        else f"dx.field({'.'.join((str(value.step), *value.keys))!r})"
    )


def _settings(step: Step, spec: PipelineSpec, sources: Sources) -> list[str]:
    found = [
        f"{name}={sources.value(getattr(step, name), _of(step, name))}" for name in _SETTINGS if getattr(step, name) is not None
    ]
    if step.ttl_s is not None:
        found.append(f"ttl={step.ttl_s!r}")
    if step.retry:
        found.append(f"retry={step.retry!r}")
    if isinstance(step.on_error, Step):
        found.append(f"on_error={_step(step.on_error, spec, sources)}")
    elif step.on_error != "stop":
        found.append(f"on_error={step.on_error!r}")
    if step.when is not None:
        ref = next(iter(step.when.bindings.values()), None)
        whole = getattr(step.when.function, "__name__", "") == "_truth" and ref is not None
        found.append(
            f"when={_ref(ref, spec) if whole and ref else sources.value(step.when.function, _of(step, 'when'), step.when.text)}"
        )
    over = next((value for name, value in step.bindings.items() if name in step.over), None)
    if isinstance(over, FieldRef):
        found.append(f"over={_ref(over, spec)}")
    return found
