"""A real HTTP server for tests of the façade: it answers every output field that a chat prompt asks for."""

import re

import pytest

KINDS = {"int": "3", "float": "0.5", "bool": "True"}


def fields_asked(text):
    """Return the fields that DSPy's chat prompt asks for, each with an answer that depends on the prompt alone."""
    asked = text.rpartition("Respond with the corresponding output fields, starting with the field ")[2]
    names = re.findall(r"\[\[ ## (\w+) ## \]\]`?(?: \(must be formatted as a valid Python (\w+)\))?", asked)
    return {name: KINDS.get(kind, f"{name} of {len(text)}") for name, kind in names if name != "completed"}


def answer(body):
    """Answer in DSPy's chat format, or any other prompt with its length."""
    text = body["messages"][-1]["content"]
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields_asked(text).items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"]) if parts else f"heard {len(text)}"


@pytest.fixture
def chat_server(model_server):
    return model_server(answer)


@pytest.fixture
def asked():
    """What tells the fields that a prompt asks for."""
    return fields_asked
