"""Training data out of a study, and a provider that trains on it: DSPy's BootstrapFinetune on our client."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dspy
from dspy.clients.provider import Provider, TrainingJob

from dspex_nb.bridge.lm import BridgeLM
from dspex_nb.errors import OptimizerError


class TrainableLM(BridgeLM):
    """A `BridgeLM` whose model a provider can train.

    Args:
        client: As `BridgeLM`.
        provider: A `dspy` Provider whose `finetune` returns the name of the trained model.
        folder: Where the training data is written before the provider is asked.
        options: As `BridgeLM`.
    """

    def __init__(self, client: Any, *, provider: Any, folder: Path, **options: Any) -> None:
        super().__init__(client, **options)
        self.provider, self.folder, self._first_model = provider, folder, client.model

    def launch(self, launch_kwargs: Mapping[str, Any] | None = None) -> None:
        """Let the provider start serving the model, where it has to."""
        self.provider.launch(self, launch_kwargs)

    def kill(self, launch_kwargs: Mapping[str, Any] | None = None) -> None:
        """Let the provider end it."""
        self.provider.kill(self, launch_kwargs)

    def finetune(
        self, train_data: Sequence[Mapping[str, Any]], train_data_format: Any, train_kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Write the training data, start the training, and return its job; the job's result is the trained LM."""
        write_training_data(self.folder, train_data)
        job = self.provider.TrainingJob(
            model=self.model, train_data=train_data, train_data_format=train_data_format, train_kwargs=train_kwargs
        )
        job.thread = threading.Thread(target=self._train, args=(job,), name="dspex-finetune", daemon=True)
        job.thread.start()
        return job

    def _train(self, job: Any) -> None:
        try:
            model = self.provider.finetune(
                job=job,
                model=job.model,
                train_data=job.train_data,
                train_data_format=job.train_data_format,
                train_kwargs=job.train_kwargs,
            )
            job.set_result(self._of_model(model))
        except Exception as error:  # noqa: BLE001 - DSPy takes it as the result, and raises it
            job.set_result(error)

    def _of_model(self, model: str) -> TrainableLM:
        trained = self.copy()
        trained.model, trained._client = model, client_of_model(self._client, model)  # noqa: SLF001 - a copy of this one
        return trained  # type: ignore[no-any-return]


def client_of_model(client: Any, model: str) -> Any:
    """Return a client like this one for another model on the same server."""
    state = {key: value for key, value in client.dump_state().items() if key != "identity"}
    found = type(client).from_state({**state, "model": model}, client.secrets() or None)
    if hasattr(found, "identity"):
        found.identity = f"{found.identity}:{model}"  # the embedded server's does not name the model it was asked for
    return found


def write_training_data(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write chat examples as JSON lines, the form that providers take; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("train_*.jsonl")))
    path = folder / f"train_{number}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows), encoding="utf-8")
    return path


def provider_of(model: str, given: Any) -> Any:
    """Return the provider that trains a model: the one given, else DSPy's for it.

    Raises:
        OptimizerError: There is none.
    """
    found = given if given is not None else dspy.LM(model).provider
    if not getattr(found, "finetunable", False):
        raise OptimizerError(
            f"nobody is known to train {model!r}",
            hint="pass provider=, a dspy Provider with finetunable=True and finetune(); dx.StandInTrainer() shows the path",
        )
    return found


@contextlib.contextmanager
def failures_left_out() -> Iterator[None]:
    """Let BootstrapFinetune go on where the program fails on an example; DSPy would end the whole study."""
    from dspy.teleprompt import bootstrap_finetune

    plain = bootstrap_finetune.bootstrap_trace_data
    bootstrap_finetune.bootstrap_trace_data = partial(plain, raise_on_error=False)
    try:
        yield
    finally:
        bootstrap_finetune.bootstrap_trace_data = plain


class StandInTrainer(Provider):  # type: ignore[misc]
    """A provider that trains nothing and shows the whole path: data out, a job, a new model's name, the new model served.

    Its "model" is a table of the examples it was given, in a file that a server of yours can answer from
    (`{folder}/{model's last part}.json`, prompt to answer).

    Args:
        folder: Where it keeps its models.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.finetunable = True
        self.folder = Path(folder)

    def finetune(  # type: ignore[override]
        self,
        job: TrainingJob,  # noqa: ARG002 - a provider of an API would put its own job's id here
        model: str,
        train_data: Sequence[Mapping[str, Any]],
        train_data_format: Any,  # noqa: ARG002
        train_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> str:
        """Keep the examples and return the name of the "trained" model."""
        table = {row["messages"][-2]["content"]: row["messages"][-1]["content"] for row in train_data}
        text = json.dumps(table, sort_keys=True, ensure_ascii=False)
        name = f"{model}-tuned-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name.rpartition('/')[2]}.json").write_text(text, encoding="utf-8")
        return name
