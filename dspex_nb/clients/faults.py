"""From what a server answered to the error a user reads: what happened, where, and the next act; never a secret."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from dspex_nb.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMError,
    LMInvalidRequestError,
    LMInvalidResponseError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
)
from dspex_nb.transport import Reply, host_of, redact

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window)|maximum context"
    r"|too many tokens|(prompt|input) is too long",
    re.IGNORECASE,
)
_NO_MONEY = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.IGNORECASE)


def error_of(url: str, reply: Reply, model: str, key_env: str = "", secrets: Iterable[str] = ()) -> LMError:
    """Return the error of a reply whose status is not 200."""
    text = reply.body[:20_000].decode("utf-8", "replace")
    said = redact(_message(text) or "(no message)", secrets)
    return error_for(
        reply.status, said, where=host_of(url), model=model, key_env=key_env, code=text, wait_s=_retry_after_s(reply)
    )


def error_for(  # noqa: PLR0911 - one return a kind of status
    status: int, said: str, *, where: str, model: str, key_env: str = "", code: str = "", wait_s: float | None = None
) -> LMError:
    """Return the error of an HTTP status; `said` is the provider's message, redacted, `code` its whole text."""
    head = f"{where} answered {status} for {model}: {said}"
    given: dict[str, Any] = {"model": model, "status": status}
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return LMAuthError(head, hint=f"check the key: {key_env or 'api_key='} may be missing, wrong or expired", **given)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        error = LMRateLimitError(
            head, hint="wait, or set rpm=, tpm= or a lower max_concurrency= on the LM", retry_after_s=wait_s, **given
        )
        if _NO_MONEY.search(code or said):
            error.retryable = False
            error.hint = "the account has no credit left: add some or use another key or model"
        return error
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT}:
        return LMTimeoutError(head, hint="run again, or lower max_tokens", **given)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return LMServerError(head, hint="the provider failed, not your program: run again later", retry_after_s=wait_s, **given)
    if status in {400, 413, 422} and _TOO_LONG.search(code or said):
        return ContextWindowExceededError(
            head, hint="shorten the inputs, use fewer demos, or a model with a larger context", **given
        )
    if status == HTTPStatus.NOT_FOUND:
        return LMInvalidRequestError(head, hint="check the model's name and api_base (it usually ends in /v1)", **given)
    if status >= HTTPStatus.BAD_REQUEST:
        return LMInvalidRequestError(head, hint="check the options given to the LM against what this model takes", **given)
    return LMInvalidResponseError(head, hint="check api_base: a chat completions server answers 200", **given)


def invalid_response(url: str, text: str, model: str, what: str, secrets: Iterable[str] = ()) -> LMInvalidResponseError:
    """Return the error of an answer in no known form, with a short excerpt."""
    excerpt = redact(text, secrets, limit=160)
    kind = " (a web page)" if excerpt[:200].lower().lstrip().startswith(("<!doctype", "<html")) else ""
    found = f"; it begins {excerpt!r}{kind}" if excerpt else ""
    return LMInvalidResponseError(
        f"{host_of(url)}: {what}{found}",
        hint="check that api_base is an OpenAI-compatible server (it usually ends in /v1)",
        model=model,
    )


def _message(text: str) -> str:
    """The provider's own words: `error.message` in its many spellings, else the text."""
    try:
        data = json.loads(text)
    except ValueError:
        return text
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, dict):
        for name in ("message", "msg", "detail", "error"):
            if error.get(name):
                return str(error[name])
    return str(error)


def _retry_after_s(reply: Reply) -> float | None:
    millis = reply.headers.get("retry-after-ms")
    given = reply.headers.get("retry-after")
    try:
        if millis is not None:
            return max(0.0, float(millis) / 1000)
        return max(0.0, float(given)) if given is not None else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given or "").timestamp() - time.time())
    except (ValueError, TypeError):
        return None
