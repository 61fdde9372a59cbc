"""Cells that run: on a scripted model, with the session of the test alone."""

import json

import pytest

import dspex_nb as dx
from dspex_nb.pipelines import read_cell
from dspex_nb.testing import ScriptedLM


class Ran:
    """What a cell's run gave, and what the model was asked."""

    def __init__(self, prediction, lm):
        self.prediction, self.requests = prediction, lm.requests

    def __getattr__(self, name):
        return getattr(self.prediction, name)

    @property
    def prompts(self):
        return [str(request.messages[-1]["content"]) for request in self.requests]


@pytest.fixture
def run():
    def ran(body, answers=(), *, names=None, adapter="json", session=None, **inputs):
        """Run a cell; answers are dicts (sent as JSON), texts, or a function of the request."""
        written = (
            answers
            if callable(answers)
            else [one if isinstance(one, str | BaseException) else json.dumps(one) for one in answers]
        )
        lm = ScriptedLM(written)
        pipeline = dx.Pipeline.of(read_cell("p", body, names or {}))
        with dx.context(lm=lm, adapter=adapter, cache=None, **(session or {})):
            return Ran(pipeline(**inputs), lm)

    return ran
