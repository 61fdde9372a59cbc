"""The options that every step takes, and the directives: read, checked, given their units."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from typing import Any

from dspex_nb.errors import did_you_mean
from dspex_nb.pipelines.arguments import Argument, Call, Deferred
from dspex_nb.pipelines.durations import read_duration
from dspex_nb.pipelines.places import Place
from dspex_nb.pipelines.records import Backoff, Defaults
from dspex_nb.pipelines.retrieving import check_method

ENGINES = ("native", "dspy")
AGGREGATIONS = ("compare", "majority", "weighted_vote")
MERGES = ("union", "rrf", "weighted", "concat")
_DIRECTIVES = {"cache": ("ttl",), "retry": ("n",), "on_error": ("action",)}


def check_setting(name: str, value: Any, place: Place, constructor: str = "") -> Any:
    """Return the value of a step option in its own unit (durations in seconds); `constructor` may ask more of it.

    Raises:
        PlanError: The option does not take this value.
    """
    if value is None or isinstance(value, Deferred):
        return value
    check = _CHECKS.get(f"{constructor}.{name}") or _CHECKS.get(name)
    if check is None:
        return value
    try:
        return check(value)
    except ValueError as error:
        raise place.plan_error(f"{name}={value!r}: {error}", _HINTS[name]) from None


def _engine(value: Any) -> str:
    if not isinstance(value, str) or value not in ENGINES:
        raise ValueError(f"no such engine; {did_you_mean(str(value), ENGINES)}engines: native, dspy")
    return value


def _retry(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("expected how many more times to try, a whole number from 0")
    return value


def _backoff(value: Any) -> Backoff:
    if isinstance(value, Backoff):
        return value
    if not isinstance(value, Mapping):
        return Backoff(_seconds("wait_s", value))
    known = {one.name: one.default for one in fields(Backoff)}
    for name in value:
        if name not in known:
            raise ValueError(f"no option {name!r}; {did_you_mean(str(name), known)}it takes {', '.join(known)}")
    made = Backoff(**{name: _seconds(name, given) for name, given in value.items()})
    if not 0 <= made.jitter <= 1 or made.factor < 1:
        raise ValueError("expected jitter from 0 to 1 and a factor from 1")
    return made


def _seconds(name: str, given: Any) -> float:
    if name in ("wait_s", "max_s") and not (isinstance(given, int | float) and given == 0):
        return read_duration(given)
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise ValueError(f"{name}: expected a number")  # noqa: TRY004 - reported as a value the option does not take
    return float(given)


def _cache(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected True or False")  # noqa: TRY004 - reported as a value the option does not take
    return value


def _aggregation(value: Any) -> Any:
    if value not in AGGREGATIONS:
        raise ValueError(f"no such aggregation; {did_you_mean(str(value), AGGREGATIONS)}known: {', '.join(AGGREGATIONS)}")
    return value


def _state(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a program's saved state")  # noqa: TRY004 - reported as a value the option does not take
    return value


def _count(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError("expected a whole number from 1")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError("expected a number")  # noqa: TRY004
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError("expected a whole number")  # noqa: TRY004
    return value


def _pool(value: Any) -> Any:
    if not (isinstance(value, str) or (hasattr(value, "submit") and hasattr(value, "settings"))):
        raise ValueError("expected a pool or the name of one")
    return value


def _adapter(value: Any) -> Any:
    if not isinstance(value, str) and (isinstance(value, type) or not (hasattr(value, "parse") or hasattr(value, "messages"))):
        raise ValueError("expected the name of an adapter, or an adapter")
    return value


def _rows(value: Any) -> Any:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ValueError("expected a list of examples")  # noqa: TRY004
    for row in (listed := list(value)):
        if not hasattr(row, "keys"):
            raise ValueError(f"{row!r:.60} is no example")
    return listed


def _methods(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("expected a list of ways to rerank")  # noqa: TRY004
    return list(value)


def _merge(value: Any) -> Any:
    if isinstance(value, str) and value not in MERGES:
        raise ValueError(f"no such merge; {did_you_mean(value, MERGES)}known: {', '.join(MERGES)}")
    if not isinstance(value, str) and not callable(value):
        raise ValueError("expected a way to merge, or a function of the dict of the children's values")  # noqa: TRY004
    return value


def _tools(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("expected a list of functions")  # noqa: TRY004 - the value is at fault
    for tool in (listed := list(value)):
        if not callable(tool):
            raise ValueError(f"{tool!r} is no function")  # noqa: TRY004
    return listed


def _sent_tools(value: Any) -> Any:
    """Check tools whose source goes into the sandbox, where nothing of this process is."""
    for tool in (listed := _tools(value)):
        if not inspect.isfunction(tool) or inspect.iscoroutinefunction(tool) or not tool.__name__.isidentifier():
            raise ValueError(f"{tool!r} is no plain function; code_act sends the source of a def into its sandbox")
    return listed


def _flag(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("expected True or False")  # noqa: TRY004
    return value


def _function(value: Any) -> Any:
    if not callable(value):
        raise ValueError("expected a function")  # noqa: TRY004
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "engine": _engine, "retry": _retry, "backoff": _backoff, "cache": _cache, "ttl": read_duration, "timeout_s": read_duration,
    "aggregation": _aggregation, "chains": _count, "state": _state, "merge": _merge, "k": _count, "N": _count,
    "max_iters": _count, "tools": _tools, "code_act.tools": _sent_tools, "call": _flag,
    "reasoning_extraction": _flag, "advanced": _flag,
    "reward_fn": _function, "judge": _function, "vectorizer": _function, "pool": _pool, "adapter": _adapter, "seed": _whole,
    "fail_count": _whole,
    **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty", "threshold", "lambda_mult"), _number),
    **dict.fromkeys(("max_tokens", "n"), _count), "demos": _rows, "trainset": _rows, "methods": _methods,
    "method": partial(check_method, "method"), "format": partial(check_method, "format"),
}  # fmt: skip
_HINTS = {
    "engine": 'write engine="native" or engine="dspy", or leave it out: the router picks and says why',
    "retry": "write e.g. retry=2",
    "backoff": 'write seconds before the first retry, or e.g. {"wait_s": 1, "factor": 2, "max_s": 30, "jitter": 0.5}',
    "cache": 'write cache=True, and ttl="1h" beside it for how long',
    "ttl": 'write e.g. ttl="1h"',
    "timeout_s": "write seconds, e.g. timeout_s=30",
    "state": "give what dspy.Module.dump_state() or dx.Predict(...).dump_state() returned",
    "aggregation": 'write e.g. aggregation="majority"',
    "chains": "write e.g. chains=3",
    "merge": 'write merge="rrf" or merge=a function of the dict of the values; without merge the dict is the value',
    "k": "write e.g. k=5",
    "N": "write e.g. N=3",
    "max_iters": "write e.g. max_iters=5",
    "tools": "write e.g. tools=[look_up]: functions with names, docstrings and annotated parameters",
    "call": "write call=True: the filled template is sent as a prompt, and the answer is the step's field",
    "reasoning_extraction": "write reasoning_extraction=True: a reasoning model's own reasoning becomes step.reasoning",
    "advanced": "write advanced=True, then rationale_field= or rationale_field_type= as DSPy takes them",
    "reward_fn": "give a function reward(arguments, prediction) that returns a number",
    "judge": "give a function of query and passages that returns a number for each",
    "vectorizer": "give a function of a list of texts that returns an array, a row a text",
    "pool": 'write e.g. pool="modules", made with dx.pool("modules", size=4)',
    "adapter": 'write e.g. adapter="json", or give an object such as dspy.XMLAdapter()',
    "seed": "write e.g. seed=1",
    **{name: f"write e.g. {name}=0.5" for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")},
    **{name: f"write e.g. {name}=0.5" for name in ("threshold", "lambda_mult")},
    **{name: f"write e.g. {name}=3" for name in ("max_tokens", "n", "fail_count")},
    **{name: f'write e.g. {name}=[{{"question": "…", "answer": "…"}}]' for name in ("demos", "trainset")},
    "methods": 'write e.g. methods=["bm25", "dense"]',
    "method": 'write e.g. method="mmr", or give a function of query and passages',
    "format": 'write e.g. format="markdown"',
}


def directive(call: Call, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return `defaults` with what a directive of the cell adds.

    Raises:
        PipelineSyntaxError: Arguments that the directive does not take.
        PlanError: A value that it does not take.
    """
    values = dict(call.keywords)
    allowed = _DIRECTIVES[call.name]
    call.refuse_more_than(1, f"one value: {_EXAMPLES[call.name]}")
    if call.args:
        values.setdefault("enabled" if call.name == "cache" else allowed[0], call.args[0])
    for name, argument in values.items():
        if name not in (*allowed, "enabled"):
            raise argument.place.plan_error(
                f"{call.name}(...) has no option {name!r}", f"{did_you_mean(name, allowed)}write {_EXAMPLES[call.name]}"
            )
        if isinstance(argument.user, Deferred) or not isinstance(argument.user, str | int | float):
            raise argument.place.syntax_error(f"{call.name}(...) takes a plain value", f"write {_EXAMPLES[call.name]}")
    if not values and call.name != "cache":
        raise call.place.syntax_error(f"{call.name}(...) needs a value", f"write {_EXAMPLES[call.name]}")
    return dict(defaults) | _directive_values(call.name, values)


_EXAMPLES = {"cache": 'cache(ttl="1h")', "retry": "retry(2)", "on_error": 'on_error("skip")'}


def _directive_values(name: str, values: Mapping[str, Argument]) -> dict[str, Any]:
    if name == "retry":
        return {"retry": check_setting("retry", values["n"].user, values["n"].place)}
    if name == "on_error":
        action = values["action"]
        if action.user not in ("stop", "skip"):
            near = did_you_mean(str(action.user), ("stop", "skip"))
            hint = f'{near}write on_error("stop") or on_error("skip"); a fallback step belongs to one step'
            raise action.place.plan_error(f'on_error({action.user!r}): expected "stop" or "skip"', hint)
        return {"on_error": action.user}
    found: dict[str, Any] = {}
    if "enabled" in values:
        enabled = values["enabled"]
        found["cache"] = check_setting("cache", enabled.user, enabled.place)
    if "ttl" in values:
        found["ttl_s"] = check_setting("ttl", values["ttl"].user, values["ttl"].place)
    return found


def with_defaults(kind: str, settings: Mapping[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Return a step's settings under `Step`'s names, with the cell's directives where the step says nothing.

    `cache(ttl=…)` says how long, never that a function is pure; and a `parallel` step leaves retrying to its children.
    """
    caching = settings.get("cache")
    if caching is None and (defaults.cache is False or kind not in ("function", "module", "pipeline", "parallel")):
        caching = defaults.cache
    ttl = settings.get("ttl")
    retry = settings.get("retry")
    return {
        **{name: settings.get(name) for name in ("engine", "adapter", "pool", "timeout_s", "state")},
        "cache": caching,
        "ttl_s": defaults.ttl_s if ttl is None else ttl,
        "retry": (0 if kind == "parallel" else defaults.retry) if retry is None else retry,
        "backoff": settings.get("backoff") or Backoff(),
    }
