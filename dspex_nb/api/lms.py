"""`dx.LM`: a language model by its model string, callable by itself and given to `dx.configure`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from dspex_nb.api.sessions import scope_here, session
from dspex_nb.clients import connect
from dspex_nb.errors import LMNotConfiguredError
from dspex_nb.messages import Message, Request, Response
from dspex_nb.scopes import Scope, new_run_id, stopped


class LM:
    """A language model.

    Args:
        model: `"provider/model"` as in DSPy and LiteLLM, or `"local"` for the embedded model.
        api_key: The provider's key; by default its environment variable. Never shown or stored.
        api_base: Address of another server that speaks the provider's format, e.g. `"http://127.0.0.1:8000/v1"`.
        cache: Whether answers are kept and served again.
        temperature: Sampling temperature; None leaves it to the provider.
        max_tokens: Longest answer in tokens; None leaves it to the adapter or the provider.
        num_retries: Further attempts after a rate limit, a server error or a lost connection.
        timeout_s: Seconds for one attempt.
        max_concurrency: Requests in flight at once; None means 64, and 4 for the embedded model.
        rpm: Requests a minute, None for no limit.
        tpm: Tokens a minute, None for no limit.
        capabilities: What a server of your own can do (`dx.Capabilities`); known for the providers' models.
        **provider: Further request options under OpenAI's names (each provider gets them in its own; what it has no form for is
            refused by name), `extra_body={…}` for what goes as it is, `model_type="responses"` for OpenAI's responses API; for
            `"local"` also `path=`, another GGUF file. `price={"input": 0.15, "output": 0.6}`, US dollars a million tokens (also
            `"cached_input"`, `"cache_write"`), tells what a server of your own costs; without it its cost is unknown.

    Raises:
        LMNotConfiguredError: The model string names nothing known.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        api_base: str | None = None,
        cache: bool = True,
        temperature: float | None = None,
        max_tokens: int | None = None,
        num_retries: int = 3,
        timeout_s: float = 120,
        max_concurrency: int | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        **provider: Any,
    ) -> None:
        settings = {
            "api_key": api_key, "api_base": api_base, "temperature": temperature, "max_tokens": max_tokens,
            "cache": cache, "num_retries": num_retries, "timeout_s": timeout_s, "max_concurrency": max_concurrency,
            "rpm": rpm, "tpm": tpm, **provider,
        }  # fmt: skip
        self.client = connect(model, **{name: value for name, value in settings.items() if value is not None})

    @property
    def model(self) -> str:
        """The model string."""
        return str(self.client.model)

    @property
    def api_base(self) -> str:
        """Address of the server, OpenAI-compatible: other tools reach the same model there. The embedded one is started."""
        state = self.client.dump_state()
        return str(state.get("base_url") or state.get("api_base") or "")

    @property
    def dspy(self) -> Any:
        """The same model as a `dspy.LM`: `dspy.configure(lm=dx.LM(…).dspy)` puts DSPy on our client, cache, limits and record."""
        from dspex_nb.bridge import BridgeLM

        now = session()
        return BridgeLM(self.client, scope=Scope(new_run_id(), now.bus), cache=now.cache)

    @property
    def dspy_adapter(self) -> Any:
        """The `dspy.Adapter` that suits the model: `compact` for the embedded one, which cannot follow DSPy's longer formats."""
        from dspex_nb.bridge import dspy_adapter

        return dspy_adapter(self.client.default_adapter)

    def __call__(self, prompt: str | None = None, *, messages: Sequence[Message] | None = None, **options: Any) -> Response:
        """Ask the model and return its response; give `messages`, or one user's `prompt`.

        Raises:
            LMError: The call failed; see the tree in `dspex_nb.errors`.
        """
        try:
            return self.client.complete(_request(prompt, messages, options), scope=scope_here(), cache=session().cache)
        except KeyboardInterrupt:
            raise stopped() from None

    async def acall(self, prompt: str | None = None, *, messages: Sequence[Message] | None = None, **options: Any) -> Response:
        """Ask the model without blocking the running event loop."""
        return await self.client.acomplete(_request(prompt, messages, options), scope=scope_here(), cache=session().cache)

    async def astream(
        self, prompt: str | None = None, *, messages: Sequence[Message] | None = None, **options: Any
    ) -> AsyncIterator[str]:
        """Ask the model and yield its answer piece by piece."""
        async for delta in self.client.astream(_request(prompt, messages, options), scope=scope_here(), cache=session().cache):
            yield delta

    def __repr__(self) -> str:
        return f"LM({self.model!r})"


def client_of(lm: Any) -> Any:
    """Return the client behind a `dx.LM`, a model string, or something that is a client already.

    Raises:
        LMNotConfiguredError: It is none of these.
    """
    if lm is None or isinstance(lm, LM):
        return lm and lm.client
    if isinstance(lm, str):
        return LM(lm).client
    if hasattr(lm, "complete") and hasattr(lm, "default_adapter"):
        return lm
    raise LMNotConfiguredError(
        f"lm={lm!r:.80} is of type {type(lm).__name__}, expected a dx.LM or a model string",
        hint="write dx.configure(lm=dx.LM('openai/gpt-5-mini')) or dx.configure(lm='local')",
    )


def _request(prompt: str | None, messages: Sequence[Message] | None, options: dict[str, Any]) -> Request:
    rollout = options.pop("rollout_id", None)
    asked = list(messages) if messages is not None else [{"role": "user", "content": prompt or ""}]
    return Request(asked, options, rollout)
