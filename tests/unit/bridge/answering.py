"""A model that does as every optimizer's prompts ask: deterministic answers to the task, to proposals, and to reflections."""

import hashlib
import json
import re

_FIELDS = re.compile(r"\[\[ ## (\w+) ## ]]")
_PLAIN = {
    "proposed_instruction": "Answer yes, always. {mark}",
    "proposed_prefix_for_output_field": "Answer:",
    "natural_language_rules": "1. Say yes. {mark}",
    "new_instruction": "Finish at once and answer yes. {mark}",
    "improved_instruction": "Answer yes, always. {mark}",
    "observations": "Questions with a number.",
    "module_advice": '{{"self": "say yes {mark}", "predict": "say yes {mark}"}}',
}


def answer(body):
    """Return a chat-format answer to a request of DSPy."""
    messages = body["messages"]
    last = str(messages[-1]["content"])
    mark = hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:6]
    wanted = last.rpartition("Respond with a JSON object in the following order of fields:")[2]
    if wanted != last:
        return json.dumps({name: _text(name, messages, last, mark) for name in re.findall(r"`(\w+)`", wanted)})
    asked = last.rpartition("Respond with the corresponding output fields")[2]
    names = [name for name in _FIELDS.findall(asked) if name != "completed"]
    if not names:
        return f"```\nAnswer yes, always. {mark}\n```"
    texts = {name: _text(name, messages, last, mark) for name in names}
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{text}" for name, text in texts.items()), "[[ ## completed ## ]]"])


def _text(name, messages, last, mark):
    if name == "answer":
        return _task(messages, last)
    if name.startswith("action_"):
        return json.dumps({"tool_name": "Finish", "tool_input_query": ""})
    return _PLAIN.get(name, f"some {name} {mark}").format(mark=mark)


def _task(messages, last):
    """Say yes to a prompt that was improved (better instructions, or demos) and to every fifth question."""
    system = str(messages[0]["content"])
    improved = "yes" in system.partition("objective is")[2].lower() or len(messages) > 2 or "Say yes" in system
    number = re.search(r"question (\d+)", last.partition("[[ ## question ## ]]")[2] or last)
    return "yes" if improved or (number and int(number[1]) % 5 == 0) else "no"
