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
    LMBillingError,
    LMError,
    LMInvalidRequestError,
    LMInvalidResponseError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMUnsupportedModelError,
)
from dspex_nb.transport import Reply, host_of, redact

_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|size|window|limit)|maximum (context|prompt)"
    r"|too many tokens|(prompt|input) is too long|token count.{0,40}exceeds|max_new_tokens. must be <=",
    re.IGNORECASE,
)
_NO_MONEY = re.compile(
    r"insufficient_quota|exceeded_current_quota|exceeded your current quota|insufficient balance|billing_error"
    r"|credit balance is too low",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(r"API_KEY_INVALID|api key (not valid|expired)|invalid[ _]api[ _]key", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"model_not_(found|available)|unsupported_model|DeploymentNotFound|not_found_error"
    r"|models?[ /\"'`:][^,;{}]{0,80}(not found|not exist|not supported)",
    re.IGNORECASE,
)
_WAIT = re.compile(r"\"retryDelay\"\s*:\s*\"([\d.]+)s\"")
_OVERLOADED = 529


def error_of(url: str, reply: Reply, model: str, key_env: str = "", secrets: Iterable[str] = ()) -> LMError:
    """Return the error of a reply whose status is not 200."""
    text = reply.body[:20_000].decode("utf-8", "replace")
    said = redact(_message(text) or "(no message)", secrets)
    return error_for(
        reply.status, said, where=host_of(url), model=model, key_env=key_env, code=text, wait_s=_retry_after_s(reply, text)
    )


def error_for(  # noqa: PLR0911 - one return a kind of status
    status: int, said: str, *, where: str, model: str, key_env: str = "", code: str = "", wait_s: float | None = None
) -> LMError:
    """Return the error of an HTTP status; `said` is the provider's message, redacted, `code` its whole text."""
    head = f"{where} answered {status} for {model}: {said}"
    given: dict[str, Any] = {"model": model, "status": status}
    text = code or said
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} or (status == HTTPStatus.BAD_REQUEST and _BAD_KEY.search(text)):
        return LMAuthError(head, hint=f"check the key: {key_env or 'api_key='} may be missing, wrong or expired", **given)
    if status == HTTPStatus.PAYMENT_REQUIRED or (
        status in {400, 429} and _NO_MONEY.search(text) and "RESOURCE_EXHAUSTED" not in text
    ):
        return LMBillingError(head, hint="the account has no credit left: add some or use another key or model", **given)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        asked = f" {wait_s:.0f} s, as it asks" if wait_s else ""
        hint = f"wait{asked}, or set rpm=, tpm= or a lower max_concurrency= on the LM"
        return LMRateLimitError(head, hint=hint, retry_after_s=wait_s, **given)
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT}:
        return LMTimeoutError(head, hint="run again, or lower max_tokens", **given)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        hint = "the provider is overloaded" if status == _OVERLOADED else "the provider failed, not your program"
        return LMServerError(head, hint=f"{hint}: run again later", retry_after_s=wait_s, **given)
    if status in {400, 413, 422} and _TOO_LONG.search(text):
        return ContextWindowExceededError(
            head, hint="shorten the inputs, use fewer demos, or a model with a larger context", **given
        )
    if status in {400, 404} and _NO_MODEL.search(text):
        return LMUnsupportedModelError(head, hint="check the model's name, and that this account may use it", **given)
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
        f"{host_of(url) if url else model}: {what}{found}",
        hint="check that api_base is an OpenAI-compatible server (it usually ends in /v1)",
        model=model,
    )


def _message(text: str) -> str:
    """The provider's own words: `error.message` in its many spellings, else the text."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or a maze of brackets
        return text
    data = data[0] if isinstance(data, list) and data else data  # Google wraps it in a list at times
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, dict):
        # An overloaded Anthropic may say its kind alone.
        for name in ("message", "msg", "detail", "error", "type"):
            if error.get(name):
                return str(error[name])
    return str(error)


def _retry_after_s(reply: Reply, text: str) -> float | None:
    """Seconds to wait as the provider asks: in a header (seconds, milliseconds or a date), or in Google's body."""
    millis, given = reply.headers.get("retry-after-ms"), reply.headers.get("retry-after")
    said = _WAIT.search(text)
    try:
        if millis is not None:
            return max(0.0, float(millis) / 1000)
        if given is not None:
            return max(0.0, float(given))
        return float(said[1]) if said else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given or "").timestamp() - time.time())
    except (ValueError, TypeError):
        return None
