"""The picture of a pipeline: boxes in layers, groups for steps inside a step, states in colour and symbol.

What is drawn is `pipelines.describe(spec)`: `{"name", "inputs": [{"name", "type"}], "steps": [{"name", "kind", "engine", "line",
"reads", "writes", "parent", "summary"}], "edges": [[from, to]], "outputs": [name]}`; missing keys are tolerated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.views.formats import cut, seconds_text
from dspex_nb.views.layout import Box, Layout, layers_of, place
from dspex_nb.views.markup import BLUE, MARKS, escape
from dspex_nb.views.svg import document, text_at, text_fit, text_width

_BOX_HEIGHT, _INPUT_HEIGHT, _PAD, _TITLE = 42, 24, 12, 24
_MIN_WIDTH, _MAX_WIDTH, _PAGE_WIDTH = 104, 240, 960
_INPUT = "\x01"


@dataclass(frozen=True, slots=True)
class StepMark:
    """What the picture says about a step: its state, engine and seconds; all may be empty."""

    state: str = ""
    engine: str = ""
    elapsed_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Graph:
    steps: Mapping[str, Mapping[str, Any]]
    children: Mapping[str, list[str]]
    edges: Sequence[tuple[str, str]]
    inputs: Sequence[Mapping[str, Any]]
    outputs: frozenset[str]
    marks: Mapping[str, StepMark]


def _graph(described: Mapping[str, Any], marks: Mapping[str, StepMark]) -> _Graph:
    steps = {str(step["name"]): step for step in described.get("steps") or () if step.get("name")}
    children: dict[str, list[str]] = {"": []}
    for name, step in steps.items():
        parent = step.get("parent")
        children.setdefault(str(parent) if parent in steps and parent != name else "", []).append(name)
    edges = [(str(a), str(b)) for a, b in described.get("edges") or ()]
    inputs = list(described.get("inputs") or ())
    return _Graph(steps, children, edges, inputs, frozenset(described.get("outputs") or ()), marks)


def _input_edges(graph: _Graph) -> list[tuple[str, str]]:
    """Return an edge from each input to the steps that read it and get it from no step before them."""
    found = []
    for given in graph.inputs:
        name = str(given.get("name", ""))
        for step, facts in graph.steps.items():
            if name not in (facts.get("reads") or ()):
                continue
            sources = [a for a, b in graph.edges if b == step and a in graph.steps]
            if not any(name in (graph.steps[a].get("writes") or ()) for a in sources):
                found.append((_INPUT + name, step))
    return found


def _ancestor(graph: _Graph, name: str, level: set[str]) -> str | None:
    """Return the step of this level that holds `name`, itself or by a child."""
    seen: set[str] = set()
    while name not in level:
        if name in seen or name not in graph.steps:
            return None
        seen.add(name)
        name = str(graph.steps[name].get("parent") or "")
    return name


def _lifted(graph: _Graph, names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    level = set(names)
    pairs = ((_ancestor(graph, a, level), _ancestor(graph, b, level)) for a, b in edges)
    return [(a, b) for a, b in pairs if a and b and a != b]


@dataclass(frozen=True, slots=True)
class _Drawn:
    width: float
    height: float
    body: str


def _label(graph: _Graph, name: str) -> str:
    parent = str(graph.steps[name].get("parent") or "")
    return name.removeprefix(f"{parent}.") if parent else name


def _second_line(graph: _Graph, name: str, *, reserve: bool = False) -> str:
    step, marked = graph.steps[name], graph.marks.get(name, StepMark())
    kind = str(step.get("kind") or "step").replace("_", " ")
    engine = marked.engine or str(step.get("engine") or "")
    seconds = seconds_text(marked.elapsed_s) if marked.elapsed_s is not None else ""
    if reserve and marked.state:
        seconds = "999 ms"
    return " · ".join(part for part in (kind, engine if engine != "python" else "", seconds) if part)


def _step_size(graph: _Graph, name: str) -> tuple[float, float]:
    # Room for a time that comes later, so that boxes do not move while a run is watched.
    wide = max(
        text_width(_label(graph, name), 12.5) + 44, text_width(_second_line(graph, name, reserve=bool(graph.marks)), 10.5) + 24
    )
    return min(max(wide, _MIN_WIDTH), _MAX_WIDTH), _BOX_HEIGHT


def _draw_step(graph: _Graph, name: str, x: float, y: float, width: float) -> str:
    state = graph.marks.get(name, StepMark()).state
    symbol, color = MARKS.get(state, ("", ""))
    heavy = f' style="stroke:{color};stroke-width:1.6"' if state and state not in {"waiting", "skipped"} else ""
    dashed = ' stroke-dasharray="4 3"' if state in {"waiting", "skipped"} else ""
    card = f'<rect class="card" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BOX_HEIGHT}" rx="7"{heavy}{dashed}/>'
    if state == "running":
        card += (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BOX_HEIGHT}" rx="7" fill="{BLUE}" fill-opacity="0.13"/>'
        )
    mark = text_at(x + width - 19, y + 18, symbol, size_px=12, more=f'style="fill:{color}" font-weight="700"') if symbol else ""
    name_text = text_fit(_label(graph, name), 12.5, width - (36 if symbol else 24))
    first = text_at(x + 12, y + 18, name_text, size_px=12.5, more='font-weight="600"')
    second = text_at(x + 12, y + 33, text_fit(_second_line(graph, name), 10.5, width - 20), css="quiet", size_px=10.5)
    return card + first + second + mark


def _draw_input(given: str, kind: str, x: float, y: float, width: float) -> str:
    pill = f'<rect class="group" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_INPUT_HEIGHT}" rx="12"/>'
    label = text_fit(f"{given}: {kind}" if kind else given, 11, width - 18)
    return pill + text_at(x + width / 2, y + 16, label, css="onpage", size_px=11, more='text-anchor="middle"')


def _edge(points: list[tuple[float, float]], *, sideways: bool) -> str:
    """Return a curve through the points, leaving and arriving along the flow, with an arrow's tip."""
    (x, y) = points[0]
    d = [f"M{x:.1f} {y:.1f}"]
    for px, py in points[1:]:
        half = ((px - x) if sideways else (py - y)) / 2
        c1, c2 = ((x + half, y), (px - half, py)) if sideways else ((x, y + half), (px, py - half))
        d.append(f"C{c1[0]:.1f} {c1[1]:.1f} {c2[0]:.1f} {c2[1]:.1f} {px:.1f} {py:.1f}")
        x, y = px, py
    tip = f"M{x:.1f} {y:.1f}l-6 -3.4v6.8z" if sideways else f"M{x:.1f} {y:.1f}l-3.4 -6h6.8z"
    return f'<path class="edge" d="{"".join(d)}"/><path class="tip" d="{tip}"/>'


def _edges(layout: Layout, dx: float, dy: float) -> str:
    parts = []
    for (start, end), way in layout.ways.items():
        a, b = layout.boxes[start], layout.boxes[end]
        middles = [layout.boxes[n] for n in way]
        if layout.sideways:
            points = [(a.x + a.width, a.y + a.height / 2)]
            points += [p for m in middles for p in ((m.x, m.y + m.height / 2), (m.x + m.width, m.y + m.height / 2))]
            points.append((b.x, b.y + b.height / 2))
        else:
            points = [(a.x + a.width / 2, a.y + a.height)]
            points += [p for m in middles for p in ((m.x + m.width / 2, m.y), (m.x + m.width / 2, m.y + m.height))]
            points.append((b.x + b.width / 2, b.y))
        parts.append(_edge([(x + dx, y + dy) for x, y in points], sideways=layout.sideways))
    return "".join(parts)


def _level(
    graph: _Graph, names: Sequence[str], inner: Mapping[str, Any], *, sideways: bool, top: bool
) -> tuple[Layout, Mapping[str, Any]]:
    """Place one level: its steps, groups at the size of what they hold, and, on the outermost, the inputs."""
    edges, boxes = list(graph.edges), []
    if top:
        given = _input_edges(graph)
        read = {a for a, _ in given}
        for entry in graph.inputs:
            key, kind = _INPUT + str(entry.get("name", "")), str(entry.get("type") or "")
            if key in read:
                wide = text_width(f"{key[1:]}: {kind}" if kind else key[1:], 11) + 22
                boxes.append(Box(key, min(max(wide, 56), _MAX_WIDTH), _INPUT_HEIGHT))
        edges = [*given, *edges]
    for name in names:
        held = inner.get(name)
        width, height = (held.width, held.height) if held else _step_size(graph, name)
        boxes.append(Box(name, width, height))
    keys = [box.name for box in boxes]
    inputs = {k for k in keys if k.startswith(_INPUT)}
    lifted = [(a, b2) for a, b in edges if a in inputs and (b2 := _ancestor(graph, b, set(names)))]
    lifted += _lifted(graph, names, edges)
    return place(boxes, lifted, sideways=sideways, gap=14, layer_gap=26), inner


def _group(graph: _Graph, name: str, *, sideways: bool) -> _Drawn:
    """Draw a step that holds steps: a titled box around its own small picture."""
    names = graph.children[name]
    inner = {n: _group(graph, n, sideways=sideways) for n in names if graph.children.get(n)}
    layout, _ = _level(graph, names, inner, sideways=sideways, top=False)
    title_width = text_width(f"{name} · {_second_line(graph, name, reserve=True)}", 11) + 2 * _PAD + 18
    width, height = max(layout.width + 2 * _PAD, title_width), layout.height + _TITLE + _PAD
    state = graph.marks.get(name, StepMark()).state
    symbol, color = MARKS.get(state, ("", ""))
    heavy = f' style="stroke:{color}"' if state and state != "waiting" else ""
    size = f'x="0.5" y="0.5" width="{width - 1:.1f}" height="{height - 1:.1f}"'
    box = f'<rect class="group" {size} rx="9"{heavy} stroke-dasharray="4 3"/>'
    title = text_at(_PAD, 16, f"{name} · {_second_line(graph, name)}", css="onpage", size_px=11)
    mark = text_at(width - 20, 16, symbol, size_px=12, more=f'style="fill:{color}" font-weight="700"') if symbol else ""
    dx = (width - layout.width) / 2
    return _Drawn(width, height, box + title + mark + _draw(graph, layout, inner, dx, _TITLE))


def _draw(graph: _Graph, layout: Layout, inner: Mapping[str, _Drawn], dx: float, dy: float) -> str:
    parts = [_edges(layout, dx, dy)]
    kinds = {_INPUT + str(entry.get("name", "")): str(entry.get("type") or "") for entry in graph.inputs}
    for name, box in layout.boxes.items():
        x, y = box.x + dx, box.y + dy
        if box.dummy:
            continue
        if name in inner:
            parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{inner[name].body}</g>')
        elif name.startswith(_INPUT):
            parts.append(_draw_input(name[1:], kinds.get(name, ""), x, y, box.width))
        else:
            parts.append(_draw_step(graph, name, x, y, box.width))
    return "".join(parts)


def pipeline_picture(described: Mapping[str, Any], marks: Mapping[str, StepMark] | None = None) -> str:
    """Draw a pipeline as a whole SVG file.

    Short pipelines flow from left to right; those that would be wider than a page flow from top to bottom.

    Args:
        described: What `pipelines.describe` returns.
        marks: State, engine and seconds of each step by name; none while nothing has run.
    """
    graph = _graph(described, marks or {})
    names = graph.children[""]
    for sideways in (True, False):
        inner = {n: _group(graph, n, sideways=sideways) for n in names if graph.children.get(n)}
        layout, _ = _level(graph, names, inner, sideways=sideways, top=True)
        if layout.width <= _PAGE_WIDTH:
            break
    body = _draw(graph, layout, inner, 6, 6)
    return document(
        layout.width + 12, layout.height + 12, body, f"{described.get('name') or 'pipeline'}: {pipeline_line(described)}"
    )


def pipeline_line(described: Mapping[str, Any]) -> str:
    """Return the pipeline in one line: layers joined by arrows, what runs side by side in brackets."""
    graph = _graph(described, {})
    names = graph.children[""]
    depth = layers_of(names, _lifted(graph, names, graph.edges))
    layers: dict[int, list[str]] = {}
    for name in names:
        layers.setdefault(depth[name], []).append(_with_children(graph, name))
    steps = [", ".join(layers[i]) if len(layers[i]) == 1 else f"[{', '.join(layers[i])}]" for i in sorted(layers)]
    given = ", ".join(str(entry.get("name", "")) for entry in graph.inputs)
    return " → ".join(part for part in (given, *steps) if part)


def _with_children(graph: _Graph, name: str) -> str:
    held = graph.children.get(name) or []
    return f"{name}({' | '.join(_label(graph, child) for child in held)})" if held else name


def pipeline_text(described: Mapping[str, Any]) -> str:
    """Return the pipeline as text: its line, then one line a step with what it reads and writes."""
    graph = _graph(described, {})
    lines = [f"{described.get('name') or 'pipeline'}: {pipeline_line(described)}"]
    width = max((len(n) for n in graph.steps), default=0)
    for name, step in graph.steps.items():
        indent = "    " if step.get("parent") in graph.steps else "  "
        flow = step.get("summary") or f"{', '.join(step.get('reads') or ())} → {', '.join(step.get('writes') or ())}"
        kind = str(step.get("kind") or "step")
        lines.append(f"{indent}{name:<{width}}  {kind:<16}  {cut(str(flow).replace(' -> ', ' → '), 80)}".rstrip())
    return "\n".join(lines)


def pipeline_mermaid(described: Mapping[str, Any]) -> str:
    """Return the pipeline as a Mermaid flowchart."""
    graph = _graph(described, {})
    ids = {name: f"s{i}" for i, name in enumerate(graph.steps)}
    ids.update({_INPUT + str(e.get("name", "")): f"i{i}" for i, e in enumerate(graph.inputs)})
    lines = ["flowchart LR"]
    lines += [f'  {ids[_INPUT + str(e.get("name", ""))]}(["{_quoted(e.get("name", ""))}"])' for e in graph.inputs]
    lines += _mermaid_level(graph, graph.children[""], ids, "  ")
    pairs = dict.fromkeys((*_input_edges(graph), *graph.edges))
    lines += [f"  {ids[a]} --> {ids[b]}" for a, b in pairs if a in ids and b in ids]
    return "\n".join(lines)


def _mermaid_level(graph: _Graph, names: Sequence[str], ids: Mapping[str, str], indent: str) -> list[str]:
    lines = []
    for name in names:
        if graph.children.get(name):
            lines += [f'{indent}subgraph {ids[name]}["{_quoted(name)}"]']
            lines += [*_mermaid_level(graph, graph.children[name], ids, indent + "  "), f"{indent}end"]
        else:
            lines.append(f'{indent}{ids[name]}["{_quoted(_label(graph, name))}"]')
    return lines


def _quoted(text: object) -> str:
    return escape(str(text).replace("\n", " ")).replace("&#x27;", "'")
