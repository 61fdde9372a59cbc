"""DSPy's own types for the native adapters: what prompts say of them, how answers become them, what of a request they fill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dspy
from dspy.adapters.types.citation import Citations
from dspy.adapters.types.decision import Choice, Noul, Score

from dspex_nb.adapters.turns import Turn
from dspex_nb.bridge.media import accept
from dspex_nb.errors import AdapterError
from dspex_nb.signatures.codecs import Codec, jsonable, repaired

_CALLS_REMINDER = ' (must be a JSON object like {"tool_calls": [{"name": "...", "args": {...}}]})'


def type_codec(kind: Any) -> Codec | None:
    """Return how a class of DSPy's, or a user's subclass of `dspy.Type`, crosses a prompt; None if only DSPy can serve it.

    Citations come out of Anthropic's own answers, and decisions (`Noul`, `Choice`, `Score`) rewrite the whole signature.
    """
    if kind is dspy.History:
        return Codec(role="history", give=_turns)
    if issubclass(kind, (dspy.ToolCallResults, dspy.ToolCallResults.ToolCallResult)):
        return Codec()
    if not issubclass(kind, dspy.Type) or issubclass(kind, (Citations, Citations.Citation, Noul, Choice, Score)):
        return None
    # A codec is kept as long as its class, so it must not hold it: `dspy.Code["java"]` makes a new one each time.
    return Codec(about=_description, as_written=True, **_peculiar(kind))


def _description(kind: Any) -> str:
    return str(kind.description())


def _peculiar(kind: Any) -> dict[str, Any]:
    """Return what DSPy does for this very class beyond what it does for all its types."""
    if kind is dspy.Reasoning:
        return {"name": "str", "note": "", "role": "reasoning", "take": _reasoning}
    if kind is dspy.Tool:
        return {"role": "tool", "give": _declaration}
    if kind is dspy.ToolCalls:
        return {"role": "tool_calls", "reminder": _CALLS_REMINDER, "take": _tool_calls}
    if issubclass(kind, dspy.Code) and kind.description():
        return {"note": ""}
    if issubclass(kind, (dspy.Image, dspy.Audio, dspy.File)):
        return {"accept": accept}
    return {}


def _reasoning(text: str) -> Any:
    return dspy.Reasoning(content=text)


def _declaration(tool: Any) -> Any:
    """Return a tool's declaration in OpenAI's form.

    Raises:
        AdapterError: It is no `dspy.Tool`.
    """
    if not isinstance(tool, dspy.Tool):
        raise AdapterError(f"{tool!r} is no tool", hint="give dspy.Tool(function)")
    return tool.format_as_litellm_function_call()


def _tool_calls(calls: Any) -> Any:
    """Return a provider's tool calls as `dspy.ToolCalls`.

    Raises:
        AdapterError: A call has no name, or arguments that are no JSON object. DSPy fails here too, and asks no second time.
    """
    try:
        return dspy.ToolCalls.from_dict_list([_call(call) for call in calls])
    except ValueError as error:
        raise AdapterError(
            f"the model called a tool without a name, or with arguments that are no JSON object: {str(calls)[:120]}",
            hint="run again, or describe the tool's arguments more plainly",
        ) from error


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    # OpenAI's responses carry name, arguments and the id that results must quote beside each other, not under `function`.
    args = function.get("arguments") or call.get("arguments", {})
    if isinstance(args, str):
        args = repaired(args)
    elif not isinstance(args, dict):
        args = {}
    return {"id": call.get("call_id") or call.get("id"), "name": function.get("name") or call.get("name"), "args": args}


def _turns(history: Any) -> list[Turn]:
    """Return a history's turns.

    Raises:
        AdapterError: It is no `dspy.History`, or a turn holds tool calls that cannot be read.
    """
    if not hasattr(history, "messages"):
        raise AdapterError(
            f"a conversation is given as a {type(history).__name__}",
            hint="give dspy.History(messages=[{...field: value...}, ...])",
        )
    return [_turn(number, message) for number, message in enumerate(history.messages, start=1)]


def _turn(number: int, values: Mapping[str, Any]) -> Turn:
    name = next((name for name, value in values.items() if _holds_calls(value)), None)
    if name is None:
        return Turn(values, values)
    try:
        calls = dspy.ToolCalls.model_validate(values[name])
        given = calls.tool_call_results
        results = None if given is None else dspy.ToolCallResults.model_validate(given)
    except ValueError as error:
        raise AdapterError(
            f"turn {number} of the conversation holds tool calls that cannot be read: {str(error).splitlines()[0]}",
            hint="keep them as dspy.ToolCalls, as the prediction returned them",
        ) from error
    answer = values if results is None else {**values, name: calls.model_copy(update={"tool_call_results": None})}
    ids = [call.id for call in calls.tool_calls]
    if results is None or not all(ids) or ids != [result.call_id for result in results.tool_call_results]:
        return Turn(values, answer, called=True, results=results)
    return Turn(
        values,
        answer,
        called=True,
        matched=True,
        calls=[_sent_call(call) for call in calls.tool_calls],
        replies=[_reply(result) for result in results.tool_call_results],
        results=results,
    )


def _holds_calls(value: Any) -> bool:
    return isinstance(value, dspy.ToolCalls) or (isinstance(value, dict) and "tool_calls" in value)


def _sent_call(call: Any) -> dict[str, Any]:
    arguments = json.dumps(jsonable(call.args), ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _reply(result: Any) -> dict[str, Any]:
    value = result.value
    content = value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
    return {"role": "tool", "tool_call_id": result.call_id, "name": result.name, "content": content}
