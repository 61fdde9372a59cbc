"""The body of `%%pipeline`, read through Python's syntax tree; nothing of it is evaluated before all of it was checked."""

from __future__ import annotations

import ast
import builtins
import hashlib
import linecache
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from dspex_nb.errors import DSPexError, did_you_mean
from dspex_nb.pipelines.arguments import Argument, BareName, Call, Deferred, Group
from dspex_nb.pipelines.drafting import draft, draft_of
from dspex_nb.pipelines.drafts import StepDraft
from dspex_nb.pipelines.fields import InputDraft
from dspex_nb.pipelines.linking import link
from dspex_nb.pipelines.options import NOT_CHILDREN, OPTIONS
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.records import Defaults, FieldRef, PipelineSpec
from dspex_nb.pipelines.settings import directive
from dspex_nb.signatures import MISSING
from dspex_nb.signatures.types import TypeReadError, read_type

DIRECTIVES = ("cache", "retry", "on_error")
_ALLOWED = "a line is an input (name: type), a step (name = constructor(...)) or a directive (cache, retry, on_error)"
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


def read_cell(name: str, body: str, namespace: Mapping[str, Any]) -> PipelineSpec:
    """Return the pipeline that a cell's body describes.

    Args:
        name: The pipeline's name.
        body: The cell without its first line; lines are counted from 1 in it.
        namespace: The user's names: functions, signatures, modules, pipelines, variables.

    Raises:
        PipelineSyntaxError: A line that is no input, step or directive, or one that cannot be read.
        PlanError: A graph that cannot run. Both point at line and column; nothing was evaluated, unless an expression of the
            user's own is what raised.
    """
    try:
        # Python ends lines at a lone "\r" too; its line numbers and ours must be the same.
        return _Reader(textwrap.dedent(body.replace("\r\n", "\n").replace("\r", "\n")), namespace).spec(name)
    except RecursionError:
        raise Place().syntax_error("the cell is nested too deeply to read", "split it into several steps") from None


class _Reader:
    def __init__(self, body: str, namespace: Mapping[str, Any]) -> None:
        self.body, self.namespace = body, namespace
        self.lines = tuple(body.split("\n"))
        self.inputs: list[InputDraft] = []
        self.steps: list[tuple[str, StepDraft]] = []
        self.defaults: dict[str, Any] = {}
        self.step_names: set[str] = set()

    def spec(self, name: str) -> PipelineSpec:
        statements = self._parse()
        self.step_names = {
            node.targets[0].id for node in statements
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        }  # fmt: skip
        for statement in statements:
            self._statement(statement)
        if not self.steps:
            raise Place().syntax_error("the pipeline has no step", 'add one, e.g. answer = predict("question -> answer")')
        return link(name, self.inputs, self.steps, Defaults(**self.defaults), self.body)

    def _parse(self) -> list[ast.stmt]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # e.g. an odd escape in a string: the user's business
                return ast.parse(self.body).body
        except SyntaxError as error:
            line = min(max(error.lineno or 1, 1), len(self.lines))
            column = min(max((error.offset or 1) - 1, 0), len(self.lines[line - 1]))
            raise Place(line, column, line, column, self.lines).syntax_error(
                f"not Python syntax: {error.msg}", _ALLOWED
            ) from None
        except _UNREADABLE as error:
            raise Place(1, 0, 1, 0, self.lines).syntax_error(f"the cell cannot be read: {error}", _ALLOWED) from None

    def place(self, node: ast.expr | ast.stmt | ast.keyword) -> Place:
        return Place.of(node, self.lines)

    def fail(self, node: ast.expr | ast.stmt | ast.keyword, message: str, hint: str = _ALLOWED) -> NoReturn:
        raise self.place(node).syntax_error(message, hint)

    # Statements

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.AnnAssign):
            self._input(node)
        elif isinstance(node, ast.Assign):
            self._step(node)
        elif isinstance(node, ast.Expr):
            self._directive(node)
        else:
            self.fail(node, f"{_STATEMENTS.get(type(node), type(node).__name__.lower())} is not allowed in a pipeline cell")

    def _input(self, node: ast.AnnAssign) -> None:
        target = node.target
        if not isinstance(target, ast.Name):
            self.fail(node, "an input is a plain name with a type", "write e.g. message: str")
        if any(one.name == target.id for one in self.inputs):
            raise self.place(node).plan_error(f"the input {target.id!r} is declared twice", "keep one of the two lines")
        default = None
        if node.value is not None:
            if self._constructor(node.value) is not None:
                self.fail(node.value, "an input's default cannot be a step", f"write {target.id} = ... without the type")
            default = self.argument(node.value)
            self._known_default(default)
        self.inputs.append(InputDraft(target.id, self._type(node.annotation), default, self.place(node)))

    def _known_default(self, default: Argument) -> None:
        value = default.value
        names = (
            {value.name: value.value is not MISSING}
            if isinstance(value, BareName)
            else value.names
            if isinstance(value, Deferred)
            else {}
        )
        for name, defined in names.items():
            if not defined:
                raise default.place.find(name).plan_error(
                    f"{name!r} is not defined", "an input's default is a value or a variable of yours"
                )
        if isinstance(value, FieldRef):
            raise default.place.plan_error("an input's default cannot come from a step", "give a value")

    def _type(self, node: ast.expr) -> Any:
        place = self.place(node)
        text = place.text
        try:
            return read_type(text.replace("\n", " "), self.namespace)
        except TypeReadError as error:
            line = min(place.line, len(self.lines))
            column = min(place.column + error.offset, len(self.lines[line - 1]))
            raise Place(line, column, line, column, self.lines).syntax_error(error.message, error.hint) from None
        except DSPexError:
            raise
        except Exception as error:  # noqa: BLE001 - a user's class may refuse to be indexed in its own way
            raise place.syntax_error(f"expected a type, found {text!r}: {error}", "write e.g. list[str]") from None

    def _step(self, node: ast.Assign) -> None:
        if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            self.fail(node, "a step has one plain name on the left of '='", 'write e.g. answer = predict("question -> answer")')
        made = self.step(node.value)
        if made is None:
            found = self.place(node.value).text.split("\n")[0]
            self.fail(
                node.value,
                f"expected a constructor, a function, a dspy.Module or a pipeline after '=', found {found}",
                self._steps_hint(),
            )
        self.steps.append((node.targets[0].id, _placed(made, self.place(node))))

    def _directive(self, node: ast.Expr) -> None:
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            self.fail(node, "an expression on its own is not allowed in a pipeline cell")
        if call.func.id not in DIRECTIVES:
            step = (
                f"give the step a name: name = {call.func.id}(...)"
                if call.func.id in OPTIONS or call.func.id in self.namespace
                else ""
            )
            self.fail(
                node,
                f"{call.func.id}(...) on its own is no directive",
                f"{did_you_mean(call.func.id, DIRECTIVES)}{step or _ALLOWED}",
            )
        self.defaults = directive(self._call(call.func.id, call), self.defaults)

    # Steps

    def step(self, node: ast.expr) -> StepDraft | None:
        """Return the step that an expression makes, None if it is a value."""
        name = self._constructor(node)
        if name is not None and isinstance(node, ast.Call):
            return draft(self._call(name, node), self.namespace)
        if isinstance(node, ast.Call):
            return draft_of(self._target(node.func), self._call(ast.unparse(node.func), node), self.namespace)
        if isinstance(node, ast.Lambda):
            return draft_of(self._lambda(node), Call("lambda", (), {}, self.place(node)), self.namespace)
        if isinstance(node, ast.Name | ast.Attribute):
            return draft_of(self._target(node), Call(ast.unparse(node), (), {}, self.place(node)), self.namespace)
        return None

    def _constructor(self, node: ast.expr) -> str | None:
        """Return the constructor that a call names, plainly or as `dx.predict`."""
        if not isinstance(node, ast.Call):
            return None
        if isinstance(node.func, ast.Name) and node.func.id in OPTIONS:
            return node.func.id
        if isinstance(node.func, ast.Name | ast.Attribute):
            found = self._look_up(node.func)
            marked = getattr(found, "__dspex_constructor__", None) if isinstance(found, types.FunctionType) else None
            return marked if marked in OPTIONS else None
        return None

    def _target(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Lambda):
            return self._lambda(node)
        if not isinstance(node, ast.Name | ast.Attribute):
            self.fail(node, "expected the name of a function, a dspy.Module or a pipeline", self._steps_hint())
        found = self._look_up(node)
        text = ast.unparse(node)
        if found is not MISSING:
            return found
        if text in OPTIONS:
            self.fail(node, f"{text} is a constructor and needs its arguments", f"write e.g. name = {text}(...)")
        if text in self.step_names:
            self.fail(
                node,
                f"{text!r} is a step of this pipeline, not something a step can run",
                "bind its field to an argument: name = my_function(x=field)",
            )
        mine = [name for name, value in self.namespace.items() if callable(value) and not name.startswith("_")]
        raise self.place(node).plan_error(
            f"no constructor, function, module or pipeline is named {text!r}",
            f"{did_you_mean(text, [*OPTIONS, *mine])}define it in a cell above",
        )

    def _look_up(self, node: ast.expr) -> Any:
        """Return what a plain or dotted name means to the user, `MISSING` if nothing; only modules and classes are entered."""
        if isinstance(node, ast.Name):
            return self.namespace.get(node.id, getattr(builtins, node.id, MISSING))
        if isinstance(node, ast.Attribute):
            owner = self._look_up(node.value)
            if isinstance(owner, types.ModuleType) and not node.attr.startswith("__"):
                return getattr(owner, node.attr, MISSING)
            if isinstance(owner, type):
                inside = next((vars(cls)[node.attr] for cls in owner.__mro__ if node.attr in vars(cls)), MISSING)
                return inside.__func__ if isinstance(inside, staticmethod) else inside
        return MISSING

    def _lambda(self, node: ast.Lambda) -> Any:
        """Return the function that a lambda is; making it runs nothing as long as its defaults are plain values."""
        for default in (*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)):
            if not _is_literal(default):
                self.fail(
                    default,
                    "a default of a lambda here is a plain value",
                    "define the function in a cell above and give its name",
                )
        return self._deferred(node).evaluate()

    def _call(self, name: str, node: ast.Call) -> Call:
        keywords: dict[str, Argument] = {}
        children = name in ("parallel", "best_of_n", "refine")
        for keyword in node.keywords:
            if keyword.arg is None:
                self.fail(keyword, "** is not allowed in a pipeline cell", "name each argument")
            if keyword.arg in keywords:
                self.fail(keyword, f"{name}(...) is given {keyword.arg!r} twice", "keep one of the two")
            fallback = keyword.arg == "on_error"
            child = name == "parallel" and keyword.arg not in NOT_CHILDREN
            keywords[keyword.arg] = self.argument(keyword.value, step=children or fallback, function=child or fallback)
        # The first argument of native, reduce and module is a function or module, lambdas among them.
        args = tuple(
            self._group(one)
            if name == "parallel" and isinstance(one, ast.List | ast.Tuple | ast.Dict)
            else self.argument(
                one, step=children, function=name == "parallel" or (name in ("native", "reduce", "module") and at == 0)
            )
            for at, one in enumerate(node.args)
        )
        return Call(name, args, keywords, self.place(node))

    def _group(self, node: ast.List | ast.Tuple | ast.Dict) -> Argument:
        """Return the children of `parallel([...])` or `parallel({"label": ...})`."""
        items: list[tuple[str | None, Argument]] = []
        keys = node.keys if isinstance(node, ast.Dict) else [None] * len(node.elts)
        for key, value in zip(keys, node.values if isinstance(node, ast.Dict) else node.elts, strict=True):
            label = key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None
            if isinstance(node, ast.Dict) and not (label or "").isidentifier():
                self.fail(
                    key or value,
                    "a label of parallel is a name in quotes",
                    'write e.g. {"tone": predict("message -> tone")}',
                )
            items.append((label, self.argument(value, step=True, function=True)))
        return Argument(Group(tuple(items)), self.place(node))

    def _steps_hint(self) -> str:
        return 'write e.g. name = predict("question -> answer"), name = my_function or name = template("...")'

    # Arguments

    def argument(  # noqa: PLR0911 - one return a kind of argument
        self, node: ast.expr, *, step: bool = False, function: bool = False
    ) -> Argument:
        """Return an argument: a literal, a name, a step's field, a step where one may stand, else an expression for later."""
        place = self.place(node)
        if step and isinstance(node, ast.Call):
            constructed = self._constructor(node) is not None
            if constructed or (isinstance(node.func, ast.Name) and node.func.id not in OPTIONS and self._is_module(node.func)):
                return Argument(self.step(node), place)
        if _is_literal(node):
            return Argument(ast.literal_eval(node), place)
        if isinstance(node, ast.Name):
            return Argument(BareName(node.id, self._look_up(node)), place)
        if isinstance(node, ast.Attribute) and (ref := self._reference(node)) is not None:
            return Argument(ref, place)
        if function and isinstance(node, ast.Attribute) and (found := self._look_up(node)) is not MISSING:
            return Argument(found, place)
        if function and isinstance(node, ast.Lambda):
            return Argument(self.step(node) if step else self._lambda(node), place)
        if isinstance(node, ast.Attribute) and isinstance(found := self._look_up(node), types.FunctionType | type):
            return Argument(found, place)
        return Argument(self._deferred(node), place)

    def _is_module(self, node: ast.expr) -> bool:
        from dspex_nb.pipelines.targets import kind_of

        return kind_of(self._look_up(node)) in ("module", "pipeline")

    def _reference(self, node: ast.Attribute) -> FieldRef | None:
        """Return the field that `step.field` means, None if the name before the first dot is no step."""
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name) or inner.id not in self.step_names:
            return None
        first, *keys = reversed(parts)
        return FieldRef(first, inner.id, tuple(keys))

    def _deferred(self, node: ast.expr) -> Deferred:
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom | ast.Starred):
                self.fail(
                    inner, f"{_EXPRESSIONS[type(inner)]} is not allowed in an argument", "compute the value in a cell above"
                )
            if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in OPTIONS:
                self.fail(
                    inner,
                    f"{inner.func.id}(...) makes a step; here a value is expected",
                    "give the step a line of its own and use its field",
                )
        parameters = _lambda_parameters(node) if isinstance(node, ast.Lambda) else None
        names = {name: self._look_up(ast.Name(name)) is not MISSING for name in _free_names(node)}
        text = self.place(node).text or ast.unparse(node)
        return Deferred(text, names, self._evaluator(node), parameters, lambda fields: self._predicate(node, text, fields))

    def _predicate(self, node: ast.expr, text: str, fields: Sequence[str]) -> Deferred:
        arguments = ast.arguments(
            posonlyargs=[], args=[ast.arg(name) for name in fields], kwonlyargs=[], kw_defaults=[], defaults=[]
        )
        made = ast.fix_missing_locations(ast.copy_location(ast.Lambda(arguments, node), node))
        described = f"lambda {', '.join(fields)}: {text}"
        return Deferred(described, {}, self._evaluator(made), dict.fromkeys(fields, True), lambda _: self._deferred(node))

    def _evaluator(self, node: ast.expr) -> Callable[[], Any]:
        """Return what evaluates an expression; compiled now, so that it is refused before anything runs."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = compile(ast.Expression(node), self._file(), "eval")
        except _UNREADABLE as error:
            self.fail(node, f"not a Python expression: {error}", "compute the value in a cell above")
        space = self.namespace if isinstance(self.namespace, dict) and "__builtins__" in self.namespace else dict(self.namespace)
        return lambda: eval(code, space)  # noqa: S307 - the user's own cell, never a model's text

    def _file(self) -> str:
        """Return the name under which Python finds the cell's source: for lambdas that are asked for theirs, and for errors."""
        name = f"<%%pipeline {hashlib.sha256(self.body.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}>"
        if name not in linecache.cache:
            lines = [f"{line}\n" for line in self.lines]
            linecache.cache[name] = (len(self.body), None, lines, name)
        return name


_STATEMENTS: dict[type[ast.stmt], str] = {
    ast.Import: "import", ast.ImportFrom: "import", ast.FunctionDef: "def", ast.AsyncFunctionDef: "async def",
    ast.ClassDef: "class",
    ast.For: "for", ast.AsyncFor: "async for", ast.While: "while", ast.If: "if", ast.With: "with", ast.AsyncWith: "async with",
    ast.Try: "try", ast.AugAssign: "an assignment with an operator", ast.Delete: "del", ast.Return: "return", ast.Pass: "pass",
    ast.Global: "global", ast.Nonlocal: "nonlocal", ast.Assert: "assert", ast.Raise: "raise",
}  # fmt: skip
_EXPRESSIONS: dict[type[ast.AST], str] = {
    ast.NamedExpr: "':='", ast.Await: "await", ast.Yield: "yield", ast.YieldFrom: "yield from", ast.Starred: "'*'",
}  # fmt: skip


def _placed(made: StepDraft, place: Place) -> StepDraft:
    from dataclasses import replace

    return replace(made, place=place)


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (*_UNREADABLE, TypeError):
        return False
    return True


def _lambda_parameters(node: ast.Lambda) -> dict[str, bool]:
    """Return a lambda's parameters, each with whether it is required."""
    plain = [*node.args.posonlyargs, *node.args.args]
    required = {one.arg: at < len(plain) - len(node.args.defaults) for at, one in enumerate(plain)}
    named = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return required | {one.arg: default is None for one, default in named}


def _free_names(node: ast.expr) -> Iterator[str]:
    """Yield the names that an expression needs from outside itself."""
    bound = {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
    bound |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}
    yield from dict.fromkeys(one.id for one in ast.walk(node) if isinstance(one, ast.Name) and one.id not in bound)
