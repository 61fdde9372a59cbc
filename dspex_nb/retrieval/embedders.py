"""`backend_of`: from what the user calls an embedding model to what runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspex_nb.errors import RetrieverError
from dspex_nb.retrieval.embedding import Backend, Embedder
from dspex_nb.retrieval.extending import provider

LOCAL = "local"
PATHS = ("./", "../", "/", "~")
"""How a text begins that names a folder."""


def backend_of(model: Any = LOCAL, **options: Any) -> Backend:
    """Return the backend of an embedding model.

    Args:
        model: `"local"` (the embedded model), `"provider/model"`, `"sentence-transformers/name"`, a folder of such a model, any
            name together with `api_base`, a Python function, or a loaded `SentenceTransformer`.
        **options: The backend's own.

    Raises:
        RetrieverError: It is none of these, or takes no such option.
        LMNotConfiguredError: The model string names nothing known.
        MissingDependencyError: A package for it is not installed.
    """
    if hasattr(model, "encode") and not isinstance(model, str):  # a text has a method of that name, too
        return _sentence_transformers(model, options)
    if callable(model):
        from dspex_nb.retrieval.embedding_python import Function

        return _made(Function, model, options, "name, dimension, batch_size")
    if not isinstance(model, str | Path):
        raise RetrieverError(
            f"an embedder cannot be made of a {type(model).__name__}",
            hint='give "local", "openai/text-embedding-3-small", or a function that takes a list of texts',
        )
    if model == LOCAL and "api_base" not in options:
        from dspex_nb.retrieval.embedding_local import MiniLM

        return _made(MiniLM, None, options, "no options")
    if isinstance(model, Path) or model.startswith(PATHS):
        return _sentence_transformers(str(there(Path(model).expanduser())), options)
    if model.startswith("sentence-transformers/"):
        return _sentence_transformers(model, options)
    from dspex_nb.retrieval.embedding_remote import Remote

    return Remote(model, **options)


def embedder_of(given: Any = None) -> Any:
    """Return an embedder: one given as it is, else one made of a model's name or a function; None is the embedded model.

    The façade's keep their vectors in the session's cache, so an index that is made again embeds nothing again.
    """
    if hasattr(given, "embed") and hasattr(given, "dimension"):
        return given
    model, make = LOCAL if given is None else given, provider("embedder")
    return Embedder(backend_of(model)) if make is None else make(model)


def there(folder: Path) -> Path:
    """Return a model's folder, which there must be: a path misspelt would be looked for at the hub, as a model of that name.

    Raises:
        RetrieverError: There is none.
    """
    if not folder.is_dir():
        raise RetrieverError(f"there is no folder {str(folder)!r}", hint=f"check the path, seen from {Path.cwd()}")
    return folder


def _sentence_transformers(model: Any, options: dict[str, Any]) -> Backend:
    from dspex_nb.retrieval.embedding_python import SentenceTransformers

    return SentenceTransformers(model, **options)


def _made(cls: Any, model: Any, options: dict[str, Any], known: str) -> Backend:
    try:
        made: Backend = cls(**options) if model is None else cls(model, **options)
    except TypeError as error:
        raise RetrieverError(f"this embedder has no such option: {error}", hint=f"it takes {known}") from None
    return made
