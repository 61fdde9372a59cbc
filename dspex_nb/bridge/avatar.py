"""DSPy's Avatar actor and its optimizer, which DSPy 3.4 ships but cannot make: both use a class that it removed.

What they ask the LM is DSPy's. Ours: an actor that several threads may call, that ends after `max_iters` actions, and an
optimizer that scores with `dspy.Evaluate`, so that each round is a trial.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.predict.avatar import ActionOutput
from dspy.predict.avatar.avatar import Avatar as DSPyAvatar
from dspy.predict.avatar.models import Tool
from dspy.predict.avatar.signatures import Actor
from dspy.signatures.signature import ensure_signature
from dspy.teleprompt.avatar_optimizer import AvatarOptimizer, Comparator, FeedbackBasedInstruction

from dspex_nb.bridge.conversion import to_dspy
from dspex_nb.errors import OptimizerError
from dspex_nb.signatures import Signature


class Avatar(DSPyAvatar):  # type: ignore[misc]
    """An actor that takes one action after the other, each a tool and what to ask it.

    Args:
        signature: As a text, ours or DSPy's.
        tools: Functions of one text, `dspy.Tool`s or DSPy's avatar tools.
        max_iters: Actions at most before it has to answer.
    """

    def __init__(self, signature: Any, tools: Sequence[Any], max_iters: int = 3) -> None:
        dspy.Module.__init__(self)
        self.signature = to_dspy(signature) if isinstance(signature, Signature) else ensure_signature(signature)
        self.input_fields, self.output_fields = self.signature.input_fields, self.signature.output_fields
        self.finish_tool = Tool(tool=None, name="Finish", desc="returns the final output and finishes the task")
        self.tools = [*map(_tool, tools), self.finish_tool]
        self.actor_signature = Actor
        for name in reversed(self.input_fields):
            one = self.input_fields[name]
            self.actor_signature = self.actor_signature.append(name, self._get_field(one), type_=one.annotation)
        self.verbose, self.max_iters = False, max_iters
        self.actor = dspy.Predict(self.actor_signature)
        self.actor_clone = copy.deepcopy(self.actor)

    def forward(self, **inputs: Any) -> Any:
        """Act until it finishes or its actions are used up, then answer."""
        worker = copy.copy(self)  # its actor's signature grows with each action, which another thread must not see
        worker.actor = copy.deepcopy(self.actor_clone)
        given = {"goal": self.signature.__doc__, "tools": [str(tool) for tool in self.tools]}
        given |= {name: inputs[name] for name in self.input_fields if name in inputs}
        done: list[ActionOutput] = []
        for number in range(1, self.max_iters + 1):
            action = getattr(worker.actor(**given), f"action_{number}")
            last = action.tool_name == "Finish" or number == self.max_iters
            told = "Gathered all information needed to finish the task."
            if action.tool_name != "Finish":
                told = str(worker._call_tool(action.tool_name, action.tool_input_query))  # noqa: SLF001 - our own base's
                asked = str(action.tool_input_query)
                done.append(ActionOutput(tool_name=str(action.tool_name), tool_input_query=asked, tool_output=told))
            worker._update_signature(number, omit_action=last)  # noqa: SLF001
            given |= {f"action_{number}": action, f"result_{number}": told}
            if last:
                break
        answer = worker.actor(**given)
        return dspy.Prediction(**{name: getattr(answer, name) for name in self.output_fields}, actions=done)

    def _call_tool(self, tool_name: str, tool_input_query: str) -> str:
        for tool in self.tools:
            if tool.name == tool_name and tool.tool is not None:
                try:
                    return str(tool.tool.run(tool_input_query))
                except Exception as error:  # noqa: BLE001 - a tool is the user's code; the actor reads what went wrong
                    return f"{type(error).__name__}: {error}"
        return f"there is no tool {tool_name!r}; tools: {', '.join(tool.name for tool in self.tools)}"


class _Function:
    """A function as DSPy's avatar calls tools: by `run`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def run(self, query: Any) -> Any:
        """Call it."""
        return self._function(query)


def _tool(tool: Any) -> Tool:
    if isinstance(tool, Tool):
        return tool
    function = tool.func if isinstance(tool, dspy.Tool) else tool
    name = tool.name if isinstance(tool, dspy.Tool) else getattr(function, "__name__", type(function).__name__)
    about = tool.desc if isinstance(tool, dspy.Tool) else (getattr(function, "__doc__", None) or name)
    return Tool(tool=_Function(function), name=name, desc=about)


class WatchedAvatarOptimizer(AvatarOptimizer):  # type: ignore[misc]
    """DSPy's, made of parts that exist; where no run is bad any more, it is done instead of failing."""

    def __init__(
        self,
        metric: Callable[..., Any],
        max_iters: int = 10,
        lower_bound: float = 0,
        upper_bound: float = 1,
        max_positive_inputs: int | None = None,
        max_negative_inputs: int | None = None,
        optimize_for: str = "max",
        num_threads: int | None = None,
    ) -> None:
        self.metric, self.max_iters, self.optimize_for = metric, max_iters, optimize_for
        self.lower_bound, self.upper_bound = lower_bound, upper_bound
        self.max_positive_inputs, self.max_negative_inputs = max_positive_inputs or 10, max_negative_inputs or 10
        self.comparator, self.feedback_instruction = dspy.Predict(Comparator), dspy.Predict(FeedbackBasedInstruction)
        self._num_threads = num_threads
        self._actor: Any = None

    def compile(self, student: Any, *, trainset: Sequence[Any]) -> Any:
        """Return the actor with the best instruction."""
        if not isinstance(student, DSPyAvatar):
            raise OptimizerError(
                f"AvatarOptimizer tunes an actor, this is a {type(student).__name__}",
                hint="make one: dx.Avatar('question -> answer', tools=[search])",
            )
        try:
            return super().compile(student, trainset=list(trainset))
        except _AllGood:
            return self._actor

    def thread_safe_evaluator(self, devset: Any, actor: Any, return_outputs: bool = False, num_threads: Any = None) -> Any:  # noqa: FBT001, FBT002 - DSPy's own
        """Score an actor as every other optimizer does."""
        evaluate = dspy.Evaluate(devset=devset, metric=self.metric, num_threads=num_threads or self._num_threads)
        found = evaluate(actor)
        mean = found.score / 100
        return (mean, found.results) if return_outputs else mean

    def _get_pos_neg_results(self, actor: Any, trainset: Any) -> Any:
        self._actor = actor
        try:
            return super()._get_pos_neg_results(actor, trainset)
        except ValueError as error:
            if "No negative" in str(error):
                raise _AllGood from error
            raise OptimizerError(
                "no example went well, so there is nothing to compare with the bad ones",
                hint="lower upper_bound=, give more examples, or begin with a better instruction",
            ) from error


class _AllGood(Exception):  # noqa: N818 - no error: every example already went well
    pass
