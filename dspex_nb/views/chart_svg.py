"""A chart as a plain SVG, for where no plotly runs: the traces that this package's figures use, and no others.

Points are one path of round dots a colour, and a heat map is one small picture, so that 2,000 points stay under 40 kB.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex_nb.views.markup import BLUE, GREY, escape
from dspex_nb.views.svg import document, text_at, text_fit

_WIDTH, _LEFT, _RIGHT, _BOTTOM = 680, 60, 20, 44
_STEPS = 9
_TICKS = 5
_LABELS = 24
_ALIKE = 1e-12

Place = Callable[[Any], NDArray[np.float64]]


@dataclass(slots=True)
class _Axis:
    """A direction: where values lie in pixels, and its ticks."""

    low: float
    high: float
    start: float
    end: float
    names: Sequence[str] = ()
    layout: Mapping[str, Any] = None  # type: ignore[assignment]

    def at(self, values: Any) -> NDArray[np.float64]:
        numbers = self._numbers(values)
        return self.start + (numbers - self.low) / (self.high - self.low or 1.0) * (self.end - self.start)

    def _numbers(self, values: Any) -> NDArray[np.float64]:
        if self.names:
            known = {name: i for i, name in enumerate(self.names)}
            return np.array([known.get(str(value), np.nan) for value in values], float)
        return np.array([np.nan if value is None else value for value in values], float)

    def ticks(self) -> list[tuple[float, str]]:
        named, words = self.layout.get("tickvals"), self.layout.get("ticktext")
        if named is not None and words is not None:
            return [(float(at), _unescaped(word)) for at, word in zip(named, words, strict=False)]
        if self.names:
            every = max(len(self.names) // _LABELS, 1)
            return [(float(i), _unescaped(name)) for i, name in enumerate(self.names) if i % every == 0]
        return [(at, self._written(at)) for at in _round_ticks(self.low, self.high)]

    def _written(self, value: float) -> str:
        pattern = self.layout.get("tickformat", "")
        shown = f"{value:.2f}" if pattern == ".2f" else f"{value:.0%}" if pattern.endswith("%") else f"{value:,.6g}"
        return f"{self.layout.get('tickprefix', '')}{shown}"


def chart_svg(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> str:
    """Return the chart as an SVG document, 680 pixels wide."""
    title = layout.get("title") or {}
    name, hint = title.get("text") or "", (title.get("subtitle") or {}).get("text") or ""
    height = min(int(layout.get("height") or 380), 900)
    meta = layout.get("meta") or {}
    body = [text_at(10, 20, _unescaped(name), css="onpage", size_px=14, more='font-weight="600"')]
    if hint:
        body.append(text_at(10, 37, text_fit(_unescaped(hint), 11, _WIDTH - 20), css="onpage", size_px=11))
    notes = layout.get("annotations") or ()
    middle = 'text-anchor="middle"'
    body += [text_at(_WIDTH / 2, height / 2 + 10, _unescaped(note["text"]), css="onpage", more=middle) for note in notes]
    lines = [trace for trace in traces if trace.get("type") == "parcoords"]
    if lines:
        body += _parallel(lines[0], height)
    elif traces:
        body += _legend(traces)
        body += _plane(traces, layout, height)
    return document(_WIDTH, height, "".join(body), str(meta.get("alt") or _unescaped(name)))


def _plane(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], height: int) -> list[str]:
    x_layout, y_layout = layout.get("xaxis") or {}, layout.get("yaxis") or {}
    names = _names(traces, "y")
    left = min(max(max((len(_unescaped(name)) for name in names), default=0) * 6.0 + 28, _LEFT), 270)
    across = _axis(traces, "x", x_layout, left, _WIDTH - _RIGHT)
    up = _axis(traces, "y", y_layout, height - _BOTTOM, 72)
    parts = _grid(across, up)
    for trace in traces:
        parts += _trace(trace, across, up)
    return parts


def _names(traces: Sequence[Mapping[str, Any]], letter: str) -> list[str]:
    """Return the categories of an axis in order; none where its values are numbers."""
    found: dict[str, None] = {}
    for trace in traces:
        values = _array(trace.get(letter))
        if values.dtype.kind in "OU" and any(isinstance(value, str) for value in values):
            found |= dict.fromkeys(str(value) for value in values)
    return list(found)


def _axis(traces: Sequence[Mapping[str, Any]], letter: str, layout: Mapping[str, Any], start: float, end: float) -> _Axis:
    names = _names(traces, letter)
    if names:
        low, high = -0.5, len(names) - 0.5
    elif layout.get("range"):
        low, high = (float(value) for value in layout["range"])
    else:
        low, high = _extent(traces, letter)
    if layout.get("autorange") == "reversed":
        low, high = high, low
    return _Axis(low, high, start, end, names, layout)


def _extent(traces: Sequence[Mapping[str, Any]], letter: str) -> tuple[float, float]:
    columns = [_numbers(trace.get(letter)) for trace in traces if trace.get(letter) is not None]
    values = np.concatenate(columns) if columns else np.zeros(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if any(trace.get("type") == "bar" for trace in traces):
        low = min(low, 0.0)
    if any(trace.get("type") == "heatmap" for trace in traces):
        return low - 0.5, high + 0.5
    room = (high - low) * 0.03 or 0.5
    return low - (0 if low == 0 else room), high + room


def _grid(across: _Axis, up: _Axis) -> list[str]:
    left, right, bottom, top = across.start, across.end, up.start, up.end
    parts = []
    if up.layout.get("visible", True):
        for at, word in up.ticks():
            y = float(up.at([up.names[int(at)]] if up.names else [at])[0])
            if up.layout.get("showgrid", True) and not up.names:
                parts.append(f'<line class="grid" x1="{left:.0f}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                text_at(left - 6, y + 4, text_fit(word, 11, left - 26), css="onpage", size_px=11, more='text-anchor="end"')
            )
        middle = (top + bottom) / 2
        turned = f'text-anchor="middle" transform="rotate(-90 12 {middle:.0f})"'
        parts.append(text_at(12, middle, _title(up), css="onpage", size_px=11, more=turned))
    if across.layout.get("visible", True):
        for at, word in across.ticks():
            x = float(across.at([across.names[int(at)]] if across.names else [at])[0])
            parts.append(text_at(x, bottom + 15, text_fit(word, 11, 90), css="onpage", size_px=11, more='text-anchor="middle"'))
        parts.append(
            text_at((left + right) / 2, bottom + 34, _title(across), css="onpage", size_px=11, more='text-anchor="middle"')
        )
    return parts


def _title(axis: _Axis) -> str:
    title = axis.layout.get("title") or {}
    return _unescaped(title if isinstance(title, str) else title.get("text") or "")


def _round_ticks(low: float, high: float) -> list[float]:
    low, high = min(low, high), max(low, high)
    if high - low < _ALIKE:
        return [low]
    step = 10.0 ** np.floor(np.log10((high - low) / _TICKS))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= _TICKS + 1)
    first = np.ceil(low / step - _ALIKE) * step
    return [float(round(at, 12)) + 0.0 for at in np.arange(first, high + step * 1e-6, step)]


# Traces


def _trace(trace: Mapping[str, Any], across: _Axis, up: _Axis) -> list[str]:
    kind = trace.get("type", "scatter")
    if kind == "heatmap":
        return _heatmap(trace, across, up)
    if kind == "bar":
        return _bars(trace, across, up)
    x, y = across.at(_array(trace.get("x"))), up.at(_array(trace.get("y")))
    mode = trace.get("mode", "lines")
    parts = _spreads(trace, x, y, across) + (_line(trace, x, y) if "lines" in mode else [])
    parts += _dots(trace, x, y) if "markers" in mode else []
    if "text" in mode:
        words = trace.get("text") or []
        parts += [
            text_at(a, b - 8, _unescaped(str(word)), css="onpage", size_px=10, more='text-anchor="middle"')
            for a, b, word in zip(x, y, words, strict=False)
            if np.isfinite(a + b) and word
        ]
    return parts


def _spreads(trace: Mapping[str, Any], x: NDArray[np.float64], y: NDArray[np.float64], across: _Axis) -> list[str]:
    """Draw intervals around points."""
    if not trace.get("error_x"):
        return []
    scale = abs(across.end - across.start) / abs(across.high - across.low or 1.0)
    half = _numbers(trace["error_x"]["array"]) * scale
    path = "".join(f"M{a - h:.1f} {b:.1f}H{a + h:.1f}" for a, b, h in zip(x, y, half, strict=True) if np.isfinite(a + b + h))
    return [f'<path d="{path}" stroke="{GREY}" stroke-width="1.5"/>'] if path else []


def _line(trace: Mapping[str, Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> list[str]:
    look = trace.get("line") or {}
    stepped = look.get("shape") == "hv"
    path, pen = [], False
    for a, b in zip(x, y, strict=False):
        if not np.isfinite(a + b):
            pen = False
            continue
        path.append(f"M{a:.1f} {b:.1f}" if not pen else f"H{a:.1f}V{b:.1f}" if stepped else f"L{a:.1f} {b:.1f}")
        pen = True
    dash = {"dash": "6 4", "dot": "2 3"}.get(look.get("dash", ""), "")
    more = f' stroke-dasharray="{dash}"' if dash else ""
    stroke = f'stroke="{escape(look.get("color", BLUE))}" stroke-width="{look.get("width", 2)}"'
    return [f'<path d="{"".join(path)}" fill="none" {stroke}{more} stroke-opacity="{trace.get("opacity", 1)}"/>'] if path else []


def _dots(trace: Mapping[str, Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> list[str]:
    look = trace.get("marker") or {}
    size = look.get("size", 7)
    size = float(np.median(_numbers(size))) if not isinstance(size, int | float) else float(size)
    seen = np.isfinite(x + y)
    parts = []
    for color, chosen in _groups(look, len(x)):
        points = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x[seen & chosen], y[seen & chosen], strict=True))
        if points:
            opacity = look.get("opacity", trace.get("opacity", 1))
            parts.append(
                f'<path d="{points}" fill="none" stroke="{color}" stroke-width="{size:g}" stroke-linecap="round"'
                f' stroke-opacity="{opacity}"/>'
            )
    return parts


def _groups(look: Mapping[str, Any], count: int) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return colours and who has them: one for all, or a few steps of a scale."""
    color = look.get("color", BLUE)
    if isinstance(color, str):
        return [(escape(color), np.ones(count, bool))]
    values = _array(color)
    if values.dtype.kind in "OU":
        return [(escape(name), values == name) for name in dict.fromkeys(values.tolist())]
    share = _shares(values.astype(float), look.get("cmin"), look.get("cmax"))
    step = np.clip(np.nan_to_num(share) * _STEPS, 0, _STEPS - 1).astype(int)
    scale = look.get("colorscale") or [[0, GREY], [1, BLUE]]
    shades = _shades(scale, (np.arange(_STEPS) + 0.5) / _STEPS)
    return [(f"rgb({r},{g},{b})", step == i) for i, (r, g, b, _) in enumerate(shades.tolist()) if (step == i).any()]


def _bars(trace: Mapping[str, Any], across: _Axis, up: _Axis) -> list[str]:
    look = trace.get("marker") or {}
    ends, middles = across.at(_array(trace["x"])), up.at(_array(trace["y"]))
    zero = float(across.at([0.0])[0])
    zero = max(zero, min(across.start, across.end))
    thick = min(abs(up.end - up.start) / max(len(middles), 1) * 0.66, 22)
    parts = []
    for color, chosen in _groups(look, len(ends)):
        for end, middle in zip(ends[chosen], middles[chosen], strict=True):
            if np.isfinite(end + middle):
                place = (
                    f'x="{min(zero, end):.1f}" y="{middle - thick / 2:.1f}" width="{abs(end - zero):.1f}" height="{thick:.1f}"'
                )
                parts.append(f'<rect {place} rx="2" fill="{color}" fill-opacity="0.8"/>')
    return parts


def _heatmap(trace: Mapping[str, Any], across: _Axis, up: _Axis) -> list[str]:
    z = _array(trace["z"]).astype(float)
    share = _shares(z, trace.get("zmin"), trace.get("zmax"))
    scale = trace.get("colorscale") or [[0, GREY], [1, BLUE]]
    pixels = _shades(scale, np.nan_to_num(share))
    pixels[~np.isfinite(z)] = 0
    if up.low < up.high:  # row 0 lies at the bottom
        pixels = pixels[::-1]
    left, right = sorted((across.start, across.end))
    top, bottom = sorted((up.start, up.end))
    data = base64.b64encode(_png(pixels)).decode()
    place = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" preserveAspectRatio="none"'
    return [f'<image {place} style="image-rendering: pixelated" href="data:image/png;base64,{data}"/>']


def _parallel(trace: Mapping[str, Any], height: int) -> list[str]:
    axes = list(trace.get("dimensions") or ())
    top, bottom = 92, height - 24
    places = np.linspace(60, _WIDTH - 60, len(axes)) if len(axes) > 1 else np.array([_WIDTH / 2])
    parts, columns = [], []
    for x, axis in zip(places, axes, strict=True):
        low, high = (float(value) for value in axis.get("range") or _extent([{"v": axis["values"]}], "v"))
        columns.append(bottom - (_numbers(axis["values"]) - low) / (high - low or 1.0) * (bottom - top))
        label = text_fit(_unescaped(axis.get("label") or ""), 11, (_WIDTH - 60) / len(axes) - 6)
        parts.append(text_at(x, top - 24, label, css="onpage", size_px=11, more='text-anchor="middle"'))
        for at, y in ((high, top - 8), (low, bottom + 14)):
            parts.append(text_at(x, y, f"{at:,.4g}", css="onpage", size_px=10, more='text-anchor="middle"'))
    for color, chosen in _groups(trace.get("line") or {}, len(columns[0]) if columns else 0):
        rows = np.array(columns)[:, chosen].T
        path = "".join(
            "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in zip(places, row, strict=True) if np.isfinite(y)) for row in rows
        )
        parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-opacity="0.4"/>' if path else "")
    parts += [f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>' for x in places]
    return parts


def _legend(traces: Sequence[Mapping[str, Any]]) -> list[str]:
    parts, x = [], 12.0
    for trace in traces:
        name = trace.get("name")
        if not name or trace.get("showlegend") is False or trace.get("type") in {"heatmap", "parcoords"}:
            continue
        color = (trace.get("line") if "lines" in trace.get("mode", "") else trace.get("marker") or {}).get("color")  # type: ignore[union-attr]
        word = text_fit(_unescaped(name), 11, 150)
        parts.append(f'<path d="M{x:.0f} 51h10" stroke="{escape(color) if isinstance(color, str) else BLUE}" stroke-width="4"/>')
        parts.append(text_at(x + 15, 55, word, css="onpage", size_px=11))
        x += 30 + len(word) * 6.2
    return parts


# Colours and numbers


def _shares(values: NDArray[np.float64], low: Any, high: Any) -> NDArray[np.float64]:
    found = values[np.isfinite(values)]
    if not len(found):
        return np.zeros(values.shape)
    low = float(found.min()) if low is None else float(low)
    high = float(found.max()) if high is None else float(high)
    share: NDArray[np.float64] = np.clip((values - low) / (high - low or 1.0), 0, 1)
    return share


def _shades(scale: Sequence[Any], share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return red, green, blue and opacity of places on a colour scale."""
    stops = np.array([float(at) for at, _ in scale])
    colors = np.array([_rgba(color) for _, color in scale])
    return np.stack([np.interp(share, stops, colors[:, i]) for i in range(4)], axis=-1).round().astype(np.uint8)


def _rgba(color: str) -> tuple[float, float, float, float]:
    if color.startswith("#"):
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return red, green, blue, 255.0
    numbers = [float(part) for part in color[color.index("(") + 1 : color.index(")")].split(",")]
    return numbers[0], numbers[1], numbers[2], 255.0 * (numbers[3] if len(numbers) > 3 else 1.0)  # noqa: PLR2004 - rgba


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RGBA picture as PNG."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + pixels[y].tobytes() for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def _array(values: Any) -> NDArray[Any]:
    """Return a trace's column as an array, also from the form in which plotly writes numpy's."""
    if values is None:
        return np.zeros(0)
    if isinstance(values, Mapping) and "bdata" in values:
        flat: NDArray[Any] = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
        shape = values.get("shape")
        return flat.reshape([int(n) for n in str(shape).split(",")]) if shape else flat
    found = np.asarray(values)
    return found if found.dtype.kind != "U" else found.astype(object)


def _numbers(values: Any) -> NDArray[np.float64]:
    found = _array(values)
    if found.dtype.kind in "OU":
        return np.array([value if isinstance(value, int | float) else np.nan for value in found.ravel()], float)
    return found.astype(float).ravel()


def _unescaped(text: str) -> str:
    """Undo `plain`: here text is escaped when it is drawn."""
    return text.replace("&lt;", "<").replace("&amp;", "&")
