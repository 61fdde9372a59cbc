"""What the finished steps of a run wrote, kept on disk until the run is done, so that a later kernel can go on from there.

    <directory>/<run id>/<name's digest>/     each step's fields as `keeping.py` writes them, and the inputs

A step is taken from here if its definition (code, signature, options, bindings) is what it was, and that of every step before
it. Values that its function reads from the notebook do not count: a run that goes on is the same run.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex_nb.ambient import Session
from dspex_nb.errors import DSPexError
from dspex_nb.pipelines.records import FieldRef, PipelineSpec, Step
from dspex_nb.runs.code_keys import key_of
from dspex_nb.runs.contents import Unkeyable
from dspex_nb.runs.keeping import Unkeepable, read_item, write_item
from dspex_nb.runs.step_cache import classes_in, classes_of
from dspex_nb.runs.wording import secrets_in
from dspex_nb.scopes import new_run_id

_STALE_S = 30 * 86400.0
_INPUTS = "inputs"
_ID = re.compile(r"[\w-]+")


@dataclass(slots=True)
class Kept:
    """One run's kept fields.

    Attributes:
        folder: The run's own folder.
        prefix: `"outer/"` for an inner pipeline.
        before: The chain of the steps before it, for an inner pipeline.
    """

    folder: Path
    prefix: str = ""
    before: str = ""
    chains: dict[str, str] = field(default_factory=dict)

    def start(self, spec: PipelineSpec) -> None:
        """Take the definitions of a pipeline's steps, which say whether what was kept still holds."""
        for step in spec.order():
            earlier = sorted({self.chains[ref.step] for ref in step.refs if ref.step})
            try:
                self.chains[step.name] = key_of(self.before, definition(step), earlier)
            except Unkeyable:  # no other attempt's step is known to be the same
                self.chains[step.name] = new_run_id()

    def below(self, step: str) -> Kept:
        """Return the same folder for the steps of a pipeline that is itself a step."""
        return Kept(self.folder, f"{self.prefix}{step}/", self.chains.get(step, ""))

    def load(self, step: Step) -> dict[str, Any] | None:
        """Return what a step wrote in an earlier attempt; None if it did not finish or is another step now."""
        try:
            fields, about = read_item(self._place(step.name), classes=classes_of(step))
        except KeyError:
            return None
        return fields if about.get("chain") == self.chains[step.name] else None

    def save(self, step: Step, fields: Mapping[str, Any]) -> str:
        """Keep what a step wrote; returns why that is impossible, or an empty text."""
        about = {"step": self.prefix + step.name, "chain": self.chains[step.name]}
        return self._save(step.name, dict(fields), about, classes_of(step))

    def save_inputs(self, spec: PipelineSpec, inputs: Mapping[str, Any]) -> str:
        """Keep the run's inputs, but none that is a secret; returns why one is not kept, or an empty text."""
        defaults = {one.name: one.default for one in spec.inputs}
        secret = [name for name, value in inputs.items() if secrets_in({name: value})]
        held = [name for name in secret if inputs[name] != defaults.get(name)]
        kept = {name: value for name, value in inputs.items() if name not in secret}
        why = self._save(_INPUTS, kept, {"held": held}, classes_in(one.type for one in spec.inputs), apart="?")
        if why or not held:
            return why
        return f"{' and '.join(held)} {'look' if len(held) > 1 else 'looks'} like a secret, and none is written to disk"

    def inputs(self, spec: PipelineSpec) -> tuple[dict[str, Any], list[str]]:
        """Return the run's inputs as far as they were kept, and the names of those that hold a secret, which are not."""
        try:
            found, about = read_item(self._place(_INPUTS, apart="?"), classes=classes_in(one.type for one in spec.inputs))
        except KeyError:
            return {}, []
        held = about.get("held")
        return (found if isinstance(found, dict) else {}), (held if isinstance(held, list) else [])

    def forget(self) -> None:
        """Delete what was kept: the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, name: str, apart: str = "") -> Path:
        return self.folder / hashlib.sha256(f"{apart}{self.prefix}{name}".encode()).hexdigest()[:24]

    def _save(self, name: str, value: Any, about: Mapping[str, Any], classes: list[type], apart: str = "") -> str:
        try:
            write_item(self._place(name, apart), value, about=about, classes=classes)
        except Unkeepable as why:
            return str(why)
        except OSError as error:
            return str(error.strerror or error)
        return ""


def kept_of(session: Session, run_id: str) -> Kept | None:
    """Return where a run of the session keeps what its steps write; None in a session without a folder.

    Raises:
        DSPexError: The id is none that a run can have: it names a folder, which is deleted when the run is done.
    """
    if not _ID.fullmatch(run_id):
        raise DSPexError(f"no run {run_id!r}", hint="dx.run_list() shows all runs")
    return None if session.steps is None else Kept(session.steps.directory.parent / "unfinished" / run_id)


def sweep(directory: Path) -> None:
    """Delete what runs of long ago left: nobody came back for it."""
    with contextlib.suppress(OSError):
        for folder in directory.iterdir():
            if folder.stat().st_mtime < time.time() - _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def definition(step: Step) -> str:
    """Return the digest of what a step is: what it runs, from what, to what; not the values that flow through it."""
    bindings = {name: str(value) if isinstance(value, FieldRef) else value for name, value in step.bindings.items()}
    condition = step.when and (step.when.function, {name: str(ref) for name, ref in step.when.bindings.items()})
    inner = [definition(child) for child in (*step.children, *([step.on_error] if isinstance(step.on_error, Step) else []))]
    return key_of(
        step.kind,
        _target(step.callable),
        step.signature.digest if step.signature is not None else None,
        dict(step.options),
        bindings,
        list(step.writes),
        step.over,
        step.texts,
        step.state,
        condition,
        inner,
        data=False,
    )


def _target(found: Any) -> Any:
    """Return what stands for the thing a step runs: a function itself, the text of a template, the steps of a pipeline."""
    if isinstance(found, PipelineSpec):
        return [definition(step) for step in found.steps]
    text = getattr(found, "text", None)
    if isinstance(text, str):
        return text
    digest = getattr(getattr(found, "signature", None), "digest", None)
    return digest if isinstance(digest, str) else found
