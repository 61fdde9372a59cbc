"""`CompactAdapter` for DSPy: the prompts, schema and parsing of our native `compact`, usable in plain DSPy too.

In plain DSPy: `dspy.configure(lm=dspy.LM("openai/local", api_base=url, api_key="x", temperature=0), adapter=CompactAdapter())`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError as DSPyParseError

from dspex_nb.adapters import CompactAdapter as NativeCompact
from dspex_nb.adapters.compact import user_text
from dspex_nb.bridge.conversion import from_dspy
from dspex_nb.errors import AdapterParseError
from dspex_nb.messages import Capabilities
from dspex_nb.signatures import Signature

_native = NativeCompact()


class CompactAdapter(dspy.Adapter):  # type: ignore[misc]
    """The shortest prompt that works, and a JSON schema that makes every answer parse.

    A signature that `compact` cannot serve exactly (tools, history, media) goes through DSPy's JSONAdapter.

    Args:
        callbacks: As for any `dspy.Adapter`.
        response_schema: Whether to send the schema. None asks our own clients and says yes for a plain `dspy.LM`: DSPy
            calls any model it does not know incapable, a local llama.cpp or vLLM server included, which enforce schemas.
    """

    def __init__(self, callbacks: list[Any] | None = None, *, response_schema: bool | None = None) -> None:
        super().__init__(callbacks=callbacks)
        self.response_schema = response_schema

    def __call__(self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]) -> Any:
        """Format, call and parse."""
        native = from_dspy(signature)
        if _native.unsupported(native) is not None:
            return dspy.JSONAdapter(callbacks=self.callbacks)(lm, lm_kwargs, signature, demos, inputs)
        self._add_options(lm, lm_kwargs, native)
        return super().__call__(lm, lm_kwargs, signature, demos, inputs)

    async def acall(self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]) -> Any:
        """Format, call and parse without blocking the loop."""
        native = from_dspy(signature)
        if _native.unsupported(native) is not None:
            return await dspy.JSONAdapter(callbacks=self.callbacks).acall(lm, lm_kwargs, signature, demos, inputs)
        self._add_options(lm, lm_kwargs, native)
        return await super().acall(lm, lm_kwargs, signature, demos, inputs)

    def format(self, signature: Any, demos: Sequence[Any], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the messages, exactly as the native engine writes them."""
        return list(_native.messages(from_dspy(signature), [dict(demo) for demo in demos], dict(inputs)))

    def format_user_message_content(
        self,
        signature: Any,
        inputs: Mapping[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,  # noqa: ARG002, FBT001, FBT002 - DSPy's signature
    ) -> str:
        """Return the inputs, one a line: how `dspy.ReAct` writes what it has done so far."""
        return "\n\n".join(part for part in (prefix, user_text(from_dspy(signature), inputs), suffix) if part)

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Return the typed output fields of an answer."""
        try:
            return dict(_native.parse(from_dspy(signature), completion))
        except AdapterParseError as error:
            # DSPy's own class, for its fallbacks and BestOfN look for that one.
            raise DSPyParseError("CompactAdapter", signature, completion, error.message) from error

    def _add_options(self, lm: Any, lm_kwargs: dict[str, Any], native: Signature) -> None:
        for name, value in _native.options(native, self._capabilities(lm)).items():
            if lm_kwargs.get(name) is None:
                lm_kwargs[name] = value

    def _capabilities(self, lm: Any) -> Capabilities:
        if self.response_schema is None and isinstance(capabilities := getattr(lm, "capabilities", None), Capabilities):
            return capabilities
        schema = self.response_schema is not False
        params = frozenset({"temperature", "max_tokens", "response_format"} if schema else {"temperature", "max_tokens"})
        return Capabilities(response_schema=schema, params=params)
