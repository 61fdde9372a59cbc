"""A pipeline as a readable JSON file: inputs, and each step as the constructor call that makes it again.

The file's own tables say what it takes from outside: `names` (what each is imported from), `source` (functions of the notebook)
and `given` (objects that have no written form, which loading must be given). `restoring` reads it.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import json
import math
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex_nb.errors import PipelineError
from dspex_nb.examples import Example
from dspex_nb.pipelines.calls import Made, ModuleRecipe, Reading, call_of
from dspex_nb.pipelines.records import PipelineSpec
from dspex_nb.pipelines.secrecy import holds_secret, refuse_secrets
from dspex_nb.pipelines.sources import Sources, is_one_line
from dspex_nb.signatures import MISSING, Field, Signature
from dspex_nb.templates import Template

FORMAT, VERSION = "dspex_nb pipeline", 1


def to_saved(spec: PipelineSpec, recipe: ModuleRecipe = lambda _: None) -> dict[str, Any]:
    """Return the content of a pipeline's file, in plain JSON values.

    Args:
        spec: The pipeline.
        recipe: Says how a `dspy.Module` object that no cell wrote is made, where it can.

    Raises:
        PipelineError: It holds something that has neither a written form nor a name, or a password.
    """
    writer = _Writer(recipe)
    body = writer.pipeline(spec)
    imports = {name: ":".join(filter(None, origin)) for name, origin in writer.sources.imports.items() if origin[0] != "typing"}
    tables = {
        "signatures": writer.signatures,
        "names": imports,
        "source": {name: text.split("\n") for name, text in writer.sources.definitions.items()},
        "given": writer.given,
    }
    return {"format": FORMAT, "version": VERSION, **body, **{name: table for name, table in tables.items() if table}}


def write_saved(path: Path, saved: Mapping[str, Any]) -> None:
    """Write a file that people read and compare; a crash while writing leaves the file before.

    Raises:
        PipelineError: A variable that a function of the notebook brought along holds a secret.
    """
    refuse_secrets({name: "\n".join(lines) for name, lines in saved.get("source", {}).items()})
    text = json.dumps(saved, indent=2, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(_lists_on_one_line(text) + "\n", encoding="utf-8")
    partial.replace(path)


def digest(spec: PipelineSpec, recipe: ModuleRecipe = lambda _: None) -> str:
    """Return a hash of all that a pipeline's results depend on, the same in every process.

    Raises:
        PipelineError: It cannot be written down.
    """
    return hashlib.sha256(json.dumps(to_saved(spec, recipe), sort_keys=True).encode()).hexdigest()[:32]


def _lists_on_one_line(text: str) -> str:
    """Pull short lists of plain values onto one line, lines of source excepted: they stay a line each."""
    head, mark, tail = text.partition('\n  "source": {')

    def joined(found: re.Match[str]) -> str:
        line = re.sub(r"\s*\n\s*", " ", found[0])
        line = f"{line[0]}{line[1:-1].strip()}{line[-1]}"
        return line if len(line) <= 100 else found[0]  # noqa: PLR2004 - what fits a screen

    for brackets in (r"\{\}", r"\[\]", r"\{\}"):
        head = re.sub(brackets[:2] + r"\n[^\[\]{}]*?(?:\{[^\[\]{}\n]*\}[^\[\]{}]*?)*\n\s*" + brackets[2:], joined, head)
    return head + mark + tail


class _Writer:
    """Turns values into JSON; what JSON has no form for becomes an object with one key that starts with `$`."""

    def __init__(self, recipe: ModuleRecipe) -> None:
        self.recipe = recipe
        self.sources = Sources()
        self.signatures: dict[str, Any] = {}
        self.given: dict[str, str] = {}
        self._known: dict[str, Signature] = {}

    def pipeline(self, spec: PipelineSpec) -> dict[str, Any]:
        inputs = {one.name: self._input(one) for one in spec.inputs}
        steps = {step.name: self.call(call_of(step, spec, self.recipe), f"step {step.name!r}") for step in spec.steps}
        return {"name": spec.name, "inputs": inputs, "steps": steps}

    def _input(self, one: Any) -> dict[str, Any]:
        where = f"input {one.name!r}"
        default = {} if one.required else {"default": self.value(one.default, where)}
        return {"type": self.sources.type(one.type, where), **default}

    def call(self, made: Made, where: str) -> dict[str, Any]:
        args = [self.value(value, where, made.texts.get("", "")) for value in made.args]
        keywords = {
            name: self._argument(name, value, f"{where}, {name}=", made.texts.get(name, ""))
            for name, value in made.keywords.items()
        }
        return {"kind": made.constructor, **({"of": args} if args else {}), **({"with": keywords} if keywords else {})}

    def _argument(self, name: str, value: Any, where: str, text: str) -> Any:
        if holds_secret(name, value):
            if text.isidentifier():
                return self._given(text, value)
            raise PipelineError(
                f"{where} holds a secret, which a saved pipeline must not", hint=f"put it into a variable: {name}=my_{name}"
            )
        return self.value(value, where, text)

    def value(self, value: Any, where: str, text: str = "") -> Any:
        """Return the JSON form of a value.

        Raises:
            PipelineError: It has none, and no name that loading could be given.
        """
        if value is None or (isinstance(value, bool | int | str) and not isinstance(value, enum.Enum)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": repr(value)}
        for form in (self._of_ours, self._plain, self._named):
            written = form(value, where, text)
            if written is not MISSING:
                return written
        if text.isidentifier():
            return self._given(text, value)
        return self.sources.value(value, where)  # raises, and says what to do

    def _given(self, name: str, value: Any) -> dict[str, str]:
        self.given[name] = type(value).__name__
        return {"$given": name}

    def _of_ours(self, value: Any, where: str, text: str) -> Any:  # noqa: PLR0911 - one return a kind of value
        del text
        if isinstance(value, Reading):
            return {"$field": value.text}
        if isinstance(value, Made):
            return {"$step": self.call(value, where)}
        if isinstance(value, PipelineSpec):
            return {"$pipeline": self.pipeline(value)}
        if isinstance(value, Template):
            return value.text
        if isinstance(value, Signature):
            return value.spec if is_one_line(value) else {"$signature": self._signature(value, where)}
        if isinstance(value, Example):
            inputs = {} if value.input_keys is None else {"inputs": sorted(value.input_keys)}
            return {"$example": self.value(dict(value), where), **inputs}
        if hasattr(value, "toDict") and hasattr(value, "with_inputs"):  # dspy.Example, without importing dspy
            keys = getattr(value, "_input_keys", None)
            return {"$dspy_example": self.value(value.toDict(), where), **({} if keys is None else {"inputs": sorted(keys)})}
        return MISSING

    def _plain(self, value: Any, where: str, text: str) -> Any:
        del text
        if isinstance(value, list):
            return [self.value(item, where) for item in value]
        if isinstance(value, Mapping):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: self._argument(key, item, where, "") for key, item in value.items()}
            return {"$dict": [[self.value(key, where), self.value(item, where)] for key, item in value.items()]}
        if isinstance(value, tuple | set | frozenset):
            items = value if isinstance(value, tuple) else sorted(value, key=repr)
            return {f"${type(value).__name__}": [self.value(item, where) for item in items]}
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        return MISSING

    def _named(self, value: Any, where: str, text: str) -> Any:
        if isinstance(value, enum.Enum):
            return {"$member": [self.sources.named(type(value), where), value.name]}
        if hasattr(value, "model_dump") and not isinstance(value, type):
            return {"$model": self.sources.named(type(value), where), "data": self.value(value.model_dump(mode="json"), where)}
        if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
            return {"$name": self._lambda(value, where, text)}
        if isinstance(value, types.ModuleType) or (callable(value) and hasattr(value, "__name__")):
            return {"$name": self.sources.named(value, where)}
        return MISSING

    def _lambda(self, value: types.FunctionType, where: str, text: str) -> str:
        source = self.sources.lambda_text(value, where, text)
        number = 1
        while (name := f"lambda_{number}") in self.sources.names and self.sources.names[name] is not value:
            number += 1
        self.sources.names[name] = value
        self.sources.definitions[name] = f"{name} = {source}"
        return name

    def _signature(self, signature: Signature, where: str) -> str:
        name = signature.name if signature.name.isidentifier() else "MySignature"
        first, number = name, 2
        while name in self._known and self._known[name] != signature:
            name, number = f"{first}_{number}", number + 1
        self._known[name] = signature
        sides = {
            side: {one.name: self._field(one, f"{where}, field {one.name!r}") for one in fields.values()}
            for side, fields in (("inputs", signature.inputs), ("outputs", signature.outputs))
        }
        self.signatures[name] = {"instructions": signature.instructions, **sides}
        return name

    def _field(self, one: Field, where: str) -> dict[str, Any]:
        if one.metadata:
            said = ", ".join(map(repr, one.metadata))
            raise PipelineError(
                f"{where}: Annotated[..., {said}] has no written form", hint="say it in the field's desc or by ge=, le=, …"
            )
        kind = {} if one.untyped else {"type": self.sources.type(one.type, where)}
        parts: dict[str, Any] = {"desc": one.desc or None, "rules": dict(one.rules) or None, "extra": dict(one.extra) or None}
        parts |= {"constraints": one.constraints or None, "factory": one.factory, "marked": one.marked}
        default = {} if one.default is MISSING else {"default": self.value(one.default, where)}
        return {**kind, **default, **{name: self.value(part, where) for name, part in parts.items() if part is not None}}
