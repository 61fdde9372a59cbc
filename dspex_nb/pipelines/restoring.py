"""Reads a saved pipeline back: values, steps, the graph, checked as a cell is. `trusting` says what it may name."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dspex_nb.errors import DataError, DSPexError, PipelineError, did_you_mean
from dspex_nb.examples import Example
from dspex_nb.pipelines.arguments import Argument, Call
from dspex_nb.pipelines.constructors import build, field
from dspex_nb.pipelines.drafting import draft
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.options import OPTIONS
from dspex_nb.pipelines.places import NOWHERE
from dspex_nb.pipelines.records import InputSpec, PipelineSpec
from dspex_nb.pipelines.saving import FORMAT, VERSION
from dspex_nb.pipelines.trusting import Outside, kind_of_value, mapping
from dspex_nb.signatures import MISSING, Field, Signature, read_type
from dspex_nb.signatures.signature import rebuild
from dspex_nb.signatures.types import TypeReadError

# `dsn` and a store's `url` too: libpq gives `PGPASSWORD` to whatever server it names, and a retriever connects when it is made.
_LEADING_OUT = frozenset({
    "api_key", "api_base", "base_url", "model_list", "extra_headers", "headers", "proxy", "proxies", "dsn",
    "host", "unix_socket", "url",
})  # fmt: skip
_KEYS = {"format", "version", "name", "inputs", "steps", "signatures", "names", "source", "given"}
_STEP_KEYS = {"kind", "of", "with"}


def read_saved(path: Path) -> dict[str, Any]:
    """Return the content of a pipeline's file.

    Raises:
        DataError: It cannot be read, is no JSON, or is no pipeline of a version known here.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no JSON: {error}", hint="give a file that pipeline.save wrote") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(
            f"{path.name} holds no pipeline: its 'format' is not {FORMAT!r}",
            hint="give a file that pipeline.save wrote; a program's state is loaded by program.load(path)",
        )
    if found.get("version") != VERSION:
        raise DataError(
            f"{path.name} is of version {found.get('version')!r}; this dspex_nb reads version {VERSION}",
            hint="load it with the dspex_nb that wrote it, and export it there with to_python()",
        )
    for key in found.keys() - _KEYS:
        raise DataError(
            f"{path.name}: unknown entry {key!r}", hint=f"{did_you_mean(key, _KEYS)}entries: {', '.join(sorted(_KEYS))}"
        )
    return found


def from_saved(
    saved: Mapping[str, Any],
    *,
    file: str = "the file",
    trust: bool = False,
    modules: Iterable[str] = (),
    names: Mapping[str, Any] | None = None,
) -> PipelineSpec:
    """Return the pipeline that `to_saved` wrote, checked as a cell is.

    Args:
        saved: The file's content.
        file: What to call it in errors and in the calls that hints show.
        trust: Whether to run the source it carries and import what it names.
        modules: Modules and packages that it may import functions and classes from.
        names: Objects to use instead of what the file says of these names, and those it must be given.

    Raises:
        DataError: It is not as a pipeline's file must be, or needs what it is not trusted with; nothing was run.
        PipelineError: The pipeline in it cannot run.
    """
    try:
        outside = Outside(saved, file=file, trust=trust, modules=tuple(modules), names=dict(names or {}))
        return _Reader(saved, outside).pipeline(saved)
    except RecursionError:
        raise DataError(f"{file} is nested too deeply to read", hint="give a file that pipeline.save wrote") from None


class _Reader:
    def __init__(self, saved: Mapping[str, Any], outside: Outside) -> None:
        self.file, self.trust, self.wrong, self.name = outside.file, outside.trust, outside.wrong, outside.name
        self.mine, self.types = outside.mine, outside.types
        self.table = self._mapping(saved.get("signatures", {}), "signatures")
        self.signatures: dict[str, Signature] = {}

    def _mapping(self, value: Any, what: str) -> dict[str, Any]:
        return mapping(value, what, self.wrong)

    def pipeline(self, saved: Mapping[str, Any]) -> PipelineSpec:
        name = saved.get("name")
        if not isinstance(name, str):
            raise self.wrong("the pipeline has no 'name'")
        inputs = {each: self._input(each, one) for each, one in self._mapping(saved.get("inputs", {}), "inputs").items()}
        steps = {}
        for each, one in self._mapping(saved.get("steps"), "steps").items():
            steps[each] = self._located(f"step {each!r}", lambda one=one, each=each: self.step(one, f"step {each!r}"))
        return self._located(f"pipeline {name!r}", lambda: build(name, steps, inputs))  # type: ignore[no-any-return]

    def _located(self, where: str, work: Any) -> Any:
        try:
            return work()
        except DataError:
            raise
        except DSPexError as error:
            raise PipelineError(f"{self.file}, {where}: {error.message}", hint=error.hint) from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:  # a value of a kind that nothing here expects
            raise self.wrong(f"{where}: {type(error).__name__}: {error}") from error

    def _input(self, name: str, one: Any) -> InputSpec:
        given = self._mapping(one, f"inputs.{name}")
        kind = self.type(given.get("type", "Any"), f"input {name!r}")
        default = self.value(given["default"], f"input {name!r}") if "default" in given else MISSING
        return InputSpec(name, kind, default)

    def type(self, text: Any, where: str) -> Any:
        if not isinstance(text, str):
            raise self.wrong(f"{where}: expected a type's text, found {kind_of_value(text)}")
        try:
            return read_type(text, self.types)
        except TypeReadError as error:
            raise self.wrong(f"{where}: {error.message}", error.hint or "give its class: names={…}") from None

    def step(self, saved: Any, where: str) -> StepDraft:
        """Return the step that a saved call makes.

        Raises:
            DataError: It is no call of a constructor there is.
        """
        call = self._mapping(saved, where)
        for key in call.keys() - _STEP_KEYS:
            raise self.wrong(f"{where}: unknown entry {key!r}", f"a step has {', '.join(sorted(_STEP_KEYS))}")
        kind = call.get("kind")
        if not isinstance(kind, str) or kind not in OPTIONS:
            raise self.wrong(f"{where}: unknown kind {kind!r}", f"{did_you_mean(str(kind), OPTIONS)}kinds: {', '.join(OPTIONS)}")
        given = call.get("of", [])
        if not isinstance(given, list):
            raise self.wrong(f"{where}: expected a list under 'of', found {kind_of_value(given)}")
        args = tuple(Argument(self.value(one, where)) for one in given)
        keywords = {
            name: Argument(self._keyword(name, one, where))
            for name, one in self._mapping(call.get("with", {}), f"{where}, with").items()
        }
        if kind == "template" and args and isinstance(args[0].value, str):
            args = args[:1]
        return draft(Call(kind, args, keywords, NOWHERE), self.types)

    def _keyword(self, name: str, one: Any, where: str) -> Any:
        value = self.value(one, f"{where}, {name}=")
        if not self.trust:
            for inner in (name, *_keys_in(one), *_keys_in(value)):  # of the value too: `$dict` writes keys as pairs
                if inner in _LEADING_OUT:
                    raise self.wrong(
                        f"{where}: {inner}= says where requests go, or with what key",
                        f"if you know it: dx.load({self.file!r}, trust=True)",
                    )
        return _without_lm(value) if name == "state" else value

    def value(self, saved: Any, where: str) -> Any:
        """Return the value that a JSON form stands for."""
        if isinstance(saved, list):
            return [self.value(one, where) for one in saved]
        if not isinstance(saved, dict):
            return saved
        tag = next((key for key in saved if key.startswith("$")), None)
        if tag is None:
            return {key: self.value(one, where) for key, one in saved.items()}
        form = _FORMS.get(tag)
        if form is None:
            raise self.wrong(f"{where}: unknown form {tag!r}", f"forms: {', '.join(_FORMS)}")
        try:
            return form(self, saved, where)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise self.wrong(f"{where}: {tag} cannot be read: {error}") from None

    def given(self, saved: dict[str, Any], where: str) -> Any:
        name = saved["$given"]
        if name not in self.mine:
            raise self.wrong(f"{where}: it needs {name!r}", f"give it: names={{{name!r}: …}}")
        return self.mine[name]

    def signature(self, saved: dict[str, Any], where: str) -> Signature:
        name = saved["$signature"]
        if name not in self.signatures:
            table = self.table
            if name not in table:
                raise self.wrong(
                    f"{where}: there is no signature {name!r}", f"{did_you_mean(str(name), table)}it has: {', '.join(table)}"
                )
            entry = self._mapping(table[name], f"signatures.{name}")
            fields = [
                one
                for side in ("inputs", "outputs")
                for one in self._fields(self._mapping(entry.get(side, {}), f"signatures.{name}.{side}"), side, name)
            ]
            self.signatures[name] = rebuild(
                Signature, Signature(fields).fields.values(), str(entry.get("instructions", "")), name
            )
        return self.signatures[name]

    def _fields(self, side: Mapping[str, Any], which: str, signature: str) -> Iterator[Field]:
        for name, saved in side.items():
            where = f"signature {signature!r}, field {name!r}"
            one = {key: self.value(value, where) for key, value in self._mapping(saved, where).items()}
            if not name.isidentifier():
                raise self.wrong(f"{where}: not a name")
            yield Field(
                name,
                self.type(one["type"], where) if "type" in one else str,
                str(one.get("desc", "")),
                which == "inputs",
                one.get("default", MISSING),
                str(one.get("constraints", "")),
                rules=one.get("rules", {}),
                extra=one.get("extra", {}),
                factory=one.get("factory"),
                untyped="type" not in one,
                marked=one.get("marked"),
            )


def _example(reader: _Reader, saved: dict[str, Any], where: str) -> Any:
    return Example(reader.value(saved["$example"], where), saved.get("inputs"))


def _dspy_example(reader: _Reader, saved: dict[str, Any], where: str) -> Any:
    made = importlib.import_module("dspy").Example(**reader.value(saved["$dspy_example"], where))
    return made.with_inputs(*saved["inputs"]) if "inputs" in saved else made


def _member(reader: _Reader, saved: dict[str, Any], where: str) -> Any:
    del where
    name, member = saved["$member"]
    return reader.name(name)[member]


def _model(reader: _Reader, saved: dict[str, Any], where: str) -> Any:
    return reader.name(saved["$model"]).model_validate(reader.value(saved["data"], where))


def _bytes(reader: _Reader, saved: dict[str, Any], where: str) -> bytes:
    del reader, where
    return base64.b64decode(saved["$bytes"])


def _read_inside(tag: str, make: Callable[[Any], Any]) -> Any:
    return lambda reader, saved, where: make(reader.value(saved[tag], where))


_FORMS: dict[str, Callable[[_Reader, dict[str, Any], str], Any]] = {
    "$field": _read_inside("$field", field),
    "$step": lambda reader, saved, where: reader.step(saved["$step"], where),
    "$pipeline": lambda reader, saved, _: reader.pipeline(saved["$pipeline"]),
    "$signature": _Reader.signature,
    "$given": _Reader.given,
    "$name": lambda reader, saved, _: reader.name(saved["$name"]),
    "$member": _member,
    "$model": _model,
    "$example": _example,
    "$dspy_example": _dspy_example,
    "$float": _read_inside("$float", float),
    "$tuple": _read_inside("$tuple", tuple),
    "$set": _read_inside("$set", set),
    "$frozenset": _read_inside("$frozenset", frozenset),
    "$dict": _read_inside("$dict", dict),
    "$bytes": _bytes,
}


def _without_lm(state: Any) -> Any:
    """Return a state without its LM: that could name any server."""
    if not isinstance(state, Mapping):  # an Example is one too
        return state
    return {key: None if key == "lm" else _without_lm(one) for key, one in state.items()}


def _keys_in(given: Any) -> Iterator[str]:
    if isinstance(given, Mapping):
        for key, one in given.items():
            yield str(key)
            yield from _keys_in(one)
    elif isinstance(given, list | tuple | set | frozenset):
        for one in given:
            yield from _keys_in(one)
