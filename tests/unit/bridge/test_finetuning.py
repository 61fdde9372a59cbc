"""BootstrapFinetune from training data to a served model: a stand-in trains, and a server answers from what it made."""

import json

import dspy
import pytest

import dspex_nb as dx
from dspex_nb.bridge.finetuning import provider_of
from dspex_nb.errors import OptimizerError

from .answering import answer

ROWS = [{"question": f"question {number}", "answer": "yes"} for number in range(10)]


def test_from_training_data_to_the_trained_model(fresh, model_server, tmp_path):
    models = tmp_path / "models"

    def answers(body):
        trained = models / f"{body['model']}.json"
        if not trained.exists():
            return answer(body)
        known = json.loads(trained.read_text())
        # A table generalizes badly: of what it has not seen it says what it says most.
        return known.get(body["messages"][-1]["content"]) or next(iter(known.values()))

    server = model_server(answers)
    dx.configure(lm=dx.LM("openai/stub", api_base=server.url, api_key="x", temperature=0), adapter="chat")
    program = dx.Predict(dx.Signature("question -> answer", "Answer the question."))
    study = dx.optimize(
        program, "BootstrapFinetune", metric="exact_match:answer", trainset=ROWS, provider=dx.StandInTrainer(models)
    )
    result = study.wait(120)
    assert (result.status, result.error) == ("done", None)
    assert (result.start_score, result.best_score) == (0.2, 1.0)
    # Only what the metric accepted was exported: two of the ten, as chats.
    lines = [json.loads(line) for line in (study.record.folder / "finetune" / "train_0.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert [message["role"] for message in lines[0]["messages"]] == ["system", "user", "assistant"]
    (model,) = [path.stem for path in models.iterdir()]
    assert {body["model"] for body in server.bodies} == {"stub", model}
    tuned = study.best
    assert tuned.lm.model == f"openai/{model}"
    assert tuned(question="question 7").answer == "yes"
    assert server.bodies[-1]["model"] == model
    assert program(question="question 7").answer == "no"


def test_a_model_that_nobody_trains_is_told_before_anything_is_asked():
    with pytest.raises(OptimizerError, match="nobody is known to train 'openai/stub'") as caught:
        provider_of("openai/stub", dspy.clients.provider.Provider())
    assert "provider=" in caught.value.hint
