"""Pieces of SVG pictures. Text is escaped here; colours follow the reader's theme where the image is told of it."""

from __future__ import annotations

from dspex_nb.views.markup import clean, escape

_NARROW, _WIDE = set("iljtfrI.,:;'|!()[] "), set("mwMW@%\u2014\u2026")
_CJK = "\u2e80"

STYLE = (
    "<style>"
    "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"
    ".card{fill:#f7f9fb;stroke:#c9d1da}.group{fill:#8a929c12;stroke:#8a929c80}"
    ".name{fill:#1b232c}.quiet{fill:#5d6875}"
    ".edge{fill:none;stroke:#8a929c;stroke-width:1.3}.tip{fill:#8a929c}.onpage{fill:#7a828c}.grid{stroke:#8a929c55}"
    "@media (prefers-color-scheme: dark){.card{fill:#20272f;stroke:#47525e}"
    ".name{fill:#e6ebf0}.quiet{fill:#a3aebb}.onpage{fill:#a3aebb}}"
    "</style>"
)


def text_width(text: str, size_px: float) -> float:
    """Return about how wide the text is; SVG in an image cannot measure itself."""
    units = sum(0.31 if c in _NARROW else 0.9 if c in _WIDE or c >= _CJK else 0.66 if c.isupper() else 0.56 for c in text)
    return units * size_px


def text_fit(text: str, size_px: float, width: float) -> str:
    """Return the text cut so that it fits the width."""
    if text_width(text, size_px) <= width:
        return text
    while text and text_width(text + "…", size_px) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def text_at(x: float, y: float, content: object, *, css: str = "name", size_px: float = 12, more: str = "") -> str:
    """Return text at a place."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size_px:g}"'
    return f'<text class="{css}" {place}{" " + more if more else ""}>{escape(clean(content))}</text>'


def document(width: float, height: float, body: str, title: str) -> str:
    """Return a whole SVG file of that size, with a title for screen readers."""
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{escape(title)}</title>{STYLE}{body}</svg>'
