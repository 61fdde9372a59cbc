"""Values of DSPy's own types (an Image in a list, say) show up in text as marked JSON; messages carry them as content parts."""

from __future__ import annotations

import json
import re
from typing import Any

_START, _END = "<<CUSTOM-TYPE-START-IDENTIFIER>>", "<<CUSTOM-TYPE-END-IDENTIFIER>>"
_MARKED = re.compile(f"{_START}(.*?){_END}", re.DOTALL)


def user_message(text: str) -> dict[str, Any]:
    """Return a user message; text with marked values becomes a list of content parts, as DSPy sends it."""
    return {"role": "user", "content": _parts(text) if _START in text else text}


def _parts(text: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    done = 0
    for found in _MARKED.finditer(text):
        if found.start() > done:
            parts.append({"type": "text", "text": text[done : found.start()]})
        payload = found.group(1).strip()
        value = _payload(payload)
        parts.extend(
            [item if isinstance(item, dict) else {"type": "text", "text": str(item)} for item in value]
            if isinstance(value, list)
            else [{"type": "text", "text": payload}]
        )
        done = found.end()
    return [*parts, {"type": "text", "text": text[done:]}] if done < len(text) else parts


def _payload(text: str) -> Any:
    # Inside a list or an object the marked JSON was encoded a second time.
    for quoted in (text, f'"{text}"'):
        try:
            value = json.loads(quoted)
            return json.loads(value) if quoted is not text else value
        except (ValueError, TypeError):
            continue
    import json_repair

    return json_repair.loads(text)
