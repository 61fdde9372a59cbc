"""HTML that cannot be broken into: every child is escaped unless this room made it.

Lab strips `<style>`, `<script>` and inline `<svg>` from an untrusted notebook and GitHub strips `style=` too, so
views are semantic tags with inline styles, pictures are data-URI images, and detail is `<details>`.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from typing import Any

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BUTTON = re.compile(
    r"<(button|select)\b[^>]*\bdata-dspex-action=[^>]*>.*?</\1>|<input\b[^>]*\bdata-dspex-action=[^>]*>", re.DOTALL
)

TEXT = "var(--jp-ui-font-color1, inherit)"
# Lab drops a value with var() from an untrusted notebook: the grey before it stays. Use it as `color: {MUTED};`.
MUTED = "#737b86; color: var(--jp-ui-font-color2, #737b86)"
LINE = "rgba(128,128,128,0.3)"
FAINT = "rgba(128,128,128,0.11)"
BLUE, GREEN, RED, AMBER, VIOLET, GREY = "#3b82f6", "#2e9e5b", "#e0524a", "#c98a14", "#8b6cf0", "#8a929c"
FONT = "var(--jp-ui-font-family, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif)"
MONO = "var(--jp-code-font-family, ui-monospace, Menlo, Consolas, monospace)"

MARKS: dict[str, tuple[str, str]] = {
    "waiting": ("○", GREY),
    "running": ("●", BLUE),
    "done": ("✓", GREEN),
    "failed": ("✗", RED),
    "skipped": ("\u2013", GREY),
    "cached": ("↺", VIOLET),
    "cancelled": ("■", AMBER),
    "stopped": ("■", AMBER),
    "stopping": ("■", AMBER),
    "paused": ("‖", AMBER),
    "pausing": ("‖", AMBER),
    "interrupted": ("⚡", RED),
}
"""Each state's symbol and colour: never colour alone, so that it reads on GitHub and for the colour-blind."""


_FIELD = (
    f"font-family: {FONT}; font-size: 12px; line-height: 20px; height: 26px; box-sizing: border-box; padding: 1px 8px;"
    f" margin: 0 6px 4px 0; border-radius: 4px; background: {FAINT}; color: {TEXT}; border: 1px solid {LINE};"
)


class Html(str):
    """Markup of our own making, already escaped."""

    __slots__ = ()


def clean(text: object) -> str:
    """Return the text without the characters that neither HTML, XML nor UTF-8 can carry."""
    return _FORBIDDEN.sub("\ufffd", str(text))


def escape(value: object) -> Html:
    """Return the value as text that cannot become markup."""
    return value if isinstance(value, Html) else Html(html.escape(clean(value), quote=True))


def join(*parts: object) -> Html:
    """Put parts together; None and empty ones are left out."""
    return Html("".join(escape(part) for part in parts if part is not None and part != ""))


def tag(name: str, *children: object, style: str = "", **attributes: Any) -> Html:
    """Return an element; `data_x` becomes `data-x`, `class_` becomes `class`, True an attribute without value."""
    written = {"style": style or None, **attributes}
    parts = [name]
    for key, value in written.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(attribute if value is True else f'{attribute}="{escape(value)}"')
    start = f"<{' '.join(parts)}>"
    return Html(start if name in {"img", "br", "hr", "input"} else f"{start}{join(*children)}</{name}>")


def frame(*children: object) -> Html:
    """Return a view's outermost box."""
    return tag(
        "div",
        *children,
        class_="dspex-view",
        style=f"font-family: {FONT}; font-size: 13px; line-height: 1.45; color: {TEXT}; max-width: 1040px; padding: 4px 2px;"
        " text-align: left;",
    )


def heading(title: object, *rest: object, kind: str = "") -> Html:
    """Return a view's first line: a small kind, the title, and what follows it (chips, buttons)."""
    small = tag("span", kind + " ", style=f"font-weight: 400; color: {MUTED};") if kind else ""
    name = tag("strong", small, title, style="font-size: 15px; font-weight: 600; margin-right: 10px;")
    return tag("div", name, *rest, style="margin: 0 0 6px 0;")


def section(title: str, note: str = "") -> Html:
    """Return a heading inside a view."""
    after = tag("span", " " + note, style=f"font-weight: 400; color: {MUTED};") if note else ""
    return tag("div", tag("strong", title, style="font-weight: 600;"), after, style="margin: 12px 0 4px 0;")


def muted(*children: object) -> Html:
    """Return quieter text."""
    return tag("span", *children, style=f"color: {MUTED};")


def mono(*children: object) -> Html:
    """Return text in the code font."""
    return tag(
        "code",
        *children,
        style=f"font-family: {MONO}; font-size: 12px; background: none; color: {TEXT}; padding: 0;",
    )


def chip(*children: object, color: str = "", strong: bool = False) -> Html:
    """Return a small rounded label; the space after it keeps labels apart where styles are stripped."""
    edge = color or LINE
    fill = f"background: {color}26;" if color and strong else ""
    weight = "font-weight: 600;" if strong else ""
    look = (
        f"display: inline-block; border: 1px solid {edge}; border-radius: 10px; padding: 0 8px; margin: 1px 5px 1px 0;"
        f" font-size: 12px; line-height: 18px; {fill} {weight}"
    )
    return join(tag("span", *children, style=look), Html(" "))


def mark(state: str) -> Html:
    """Return a state's symbol in its colour; a running one moves gently where the widget's own style is loaded."""
    symbol, color = MARKS.get(state, ("•", GREY))
    moving = "dspex-running" if state in {"running", "stopping", "pausing"} else None
    look = f"color: {color}; font-weight: 700; display: inline-block; min-width: 13px;"
    return tag("span", symbol, class_=moving, style=look)


def state_text(state: str) -> Html:
    """Return symbol and word of a state, kept on one line."""
    return tag("span", mark(state), " ", state, style="white-space: nowrap;")


def state_chip(state: str) -> Html:
    """Return a state as a label."""
    return chip(mark(state), " ", state, color=MARKS.get(state, ("", GREY))[1])


def button(
    action: str, label: object, *, danger: bool = False, value: str | None = None, disabled: bool = False, title: str = ""
) -> Html:
    """Return a button that the widget wires to the action of that name; static copies leave it out.

    With a `value` it hands that to the input of the name instead, and may be pressed again at once.
    """
    look = (
        f"font-family: {FONT}; font-size: 12px; line-height: 20px; padding: 1px 12px; margin: 0 6px 0 0; border-radius: 4px;"
        f" cursor: pointer; background: {FAINT}; color: {TEXT}; border: 1px solid {RED if danger else LINE};"
    )
    told = {"title": title, "aria_label": title} if title else {}
    more = {**told, "data_dspex_value": value}
    return tag("button", label, type="button", style=look, disabled=disabled, data_dspex_action=action, **more)


def search_box(action: str, hint: str, *, value: str = "", label: str = "", width: str = "240px") -> Html:
    """Return a field whose text the widget hands to the input of that name as it is typed.

    Args:
        action: The input's name.
        hint: What the empty field says.
        value: What is written in it already.
        label: Its accessible name; the hint by default.
        width: Its width in CSS.
    """
    look = f"{_FIELD} width: {width}; max-width: 100%;"
    more = {"value": value or None, "aria_label": label or hint, "spellcheck": "false"}
    return tag("input", type="search", placeholder=hint, style=look, data_dspex_action=action, **more)


def choice_box(action: str, choices: Sequence[tuple[str, str]], chosen: str, label: str) -> Html:
    """Return a list to choose from: (value, words) pairs; the widget hands the value to the input of that name."""
    options = [tag("option", words, value=value, selected=value == chosen) for value, words in choices]
    return tag("select", *options, aria_label=label, style=_FIELD, data_dspex_action=action)


def press(action: str, value: object, *children: object, style: str = "", **attributes: Any) -> Html:
    """Return a button that says a value with its action, in the look of the text around it: a tab, a heading, a number."""
    look = (
        "font: inherit; line-height: inherit; padding: 0; margin: 0; border: none; background: none; cursor: pointer;"
        f" text-align: inherit; color: {TEXT}; {style}"
    )
    return tag("button", *children, type="button", style=look, data_dspex_action=action, data_dspex_value=value, **attributes)


def static(view: str) -> str:
    """Return the view without its buttons: what a saved notebook keeps, where nothing would answer them."""
    return _BUTTON.sub("", view)


def details(summary: object, *children: object, opened: bool = False, tight: bool = False) -> Html:
    """Return detail one click away; `tight` for a table's cell, whose line it must not push down."""
    head = tag(
        "summary", summary, style=f"cursor: pointer; padding: {0 if tight else 2}px 0;{'' if tight else ' font-weight: 500;'}"
    )
    return tag("details", head, *children, open=opened, style=f"margin: {0 if tight else 4}px 0;")


def pre(text: object, *, max_height_px: int = 420) -> Html:
    """Return text as written, wrapped, in a box that scrolls when long."""
    look = (
        f"font-family: {MONO}; font-size: 12px; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere;"
        f" margin: 4px 0 8px 0; padding: 8px 10px; background: {FAINT}; color: {TEXT};"
        f" border: 1px solid {LINE}; border-radius: 4px; max-height: {max_height_px}px; overflow: auto;"
    )
    return tag("pre", text, style=look)


def notice(title: object, *rest: object, color: str = RED) -> Html:
    """Return a box with an edge in `color`: an error, a warning, a verdict."""
    edge = f"border: 1px solid {LINE}; border-left: 3px solid {color};"
    look = f"{edge} border-radius: 4px; padding: 6px 10px; margin: 8px 0;"
    head = tag("div", title, style="font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere;")
    return tag("div", head, *rest, style=look)


def error_notice(error: str) -> Html:
    """Return an error's message and, after `→`, its hint, as `DSPexError` writes them."""
    message, _, hint = error.partition("\n→ ")
    return notice(join(mark("failed"), " ", message), tag("div", "→ ", hint, style=f"color: {MUTED};") if hint else "")


def bar(share: float, *, color: str = BLUE, width: str = "100%", failed: float = 0.0) -> Html:
    """Return a progress bar: `share` of it done, `failed` of it (within the done part) in red."""
    share, failed = min(max(share, 0.0), 1.0), min(max(failed, 0.0), 1.0)
    good = max(share - failed, 0.0)
    piece = "display: inline-block; height: 6px; vertical-align: top;"
    parts = join(
        tag("span", style=f"{piece} background: {color}; width: {good * 100:.2f}%;"),
        tag("span", style=f"{piece} background: {RED}; width: {failed * 100:.2f}%;") if failed else "",
    )
    look = (
        f"height: 6px; line-height: 6px; font-size: 0; border-radius: 3px; overflow: hidden; background: {FAINT};"
        f" width: {width}; max-width: 100%; margin: 5px 0;"
    )
    return tag("div", parts, style=look)


def picture(svg: str, alt: str) -> Html:
    """Return an SVG as an image: the one form of drawing that an untrusted notebook keeps.

    On a narrow page it shrinks by a quarter or so, then scrolls in its own box: labels must stay legible.
    """
    data = base64.b64encode(svg.encode("utf-8", "replace")).decode("ascii")
    size = re.match(r'<svg[^>]* width="(\d+)"', svg)
    width = int(size[1]) if size else 0
    look = f"display: block; height: auto; width: {width}px; max-width: 100%; min-width: {round(width * 0.72)}px; margin: 6px 0;"
    image = tag("img", src=f"data:image/svg+xml;base64,{data}", alt=alt, width=width or None, style=look)
    return tag("div", image, style="overflow-x: auto;")
