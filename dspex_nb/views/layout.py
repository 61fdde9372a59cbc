"""Places boxes in layers: longest path, barycentre order, then gentle alignment. Pure arithmetic, no drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_SWEEPS = 6


@dataclass(slots=True)
class Box:
    """A box to place: its size goes in, its top-left corner comes out. A dummy bends a long edge around others."""

    name: str
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    dummy: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Placed boxes, the way of each edge as the dummies it passes, and the whole size."""

    boxes: Mapping[str, Box]
    ways: Mapping[tuple[str, str], tuple[str, ...]]
    width: float
    height: float
    sideways: bool
    depth: Mapping[str, int] = field(default_factory=dict)


def layers_of(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return each name's layer: one more than its deepest reader-of. A cycle's back edge is not followed."""
    before: dict[str, list[str]] = {name: [] for name in names}
    for start, end in edges:
        before[end].append(start)
    depth: dict[str, int] = {}
    path: set[str] = set()

    def of(name: str) -> int:
        if name not in depth:
            path.add(name)
            depth[name] = max((of(b) + 1 for b in before[name] if b not in path), default=0)
            path.discard(name)
        return depth[name]

    for name in names:
        of(name)
    return depth


def place(boxes: Sequence[Box], edges: Sequence[tuple[str, str]], *, sideways: bool, gap: float, layer_gap: float) -> Layout:
    """Give every box its place.

    Args:
        boxes: Boxes with their sizes, in the order of the cell.
        edges: Pairs of names; unknown names and loops are left out.
        sideways: Layers from left to right instead of from top to bottom.
        gap: Pixels between neighbours of a layer.
        layer_gap: Pixels between layers.
    """
    known = {box.name: box for box in boxes}
    edges = list(dict.fromkeys((a, b) for a, b in edges if a in known and b in known and a != b))
    depth = layers_of(list(known), edges)
    ways = _split_long_edges(known, edges, depth)
    links = [pair for (a, b), way in ways.items() for pair in zip((a, *way), (*way, b), strict=True)]
    layers = _ordered(known, links, depth)
    _align(layers, known, links, sideways=sideways, gap=gap)
    width, height = _stack(layers, known, sideways=sideways, layer_gap=layer_gap)
    return Layout(known, ways, width, height, sideways, depth)


def _split_long_edges(
    known: dict[str, Box], edges: Sequence[tuple[str, str]], depth: dict[str, int]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Put a dummy into every layer a long edge crosses, so that it gets room of its own."""
    ways: dict[tuple[str, str], tuple[str, ...]] = {}
    for start, end in edges:
        way = []
        for layer in range(depth[start] + 1, depth[end]):
            name = f"\0{start}\0{end}\0{layer}"
            known[name] = Box(name, 8, 8, dummy=True)
            depth[name] = layer
            way.append(name)
        ways[start, end] = tuple(way)
    return ways


def _neighbours(links: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for start, end in links:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)
    return before, after


def _ordered(known: dict[str, Box], links: Sequence[tuple[str, str]], depth: dict[str, int]) -> list[list[str]]:
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in known:
        layers[depth[name]].append(name)
    before, after = _neighbours(links)
    rank = {name: i / max(len(layer), 1) for layer in layers for i, name in enumerate(layer)}
    for sweep in range(_SWEEPS):
        near, run = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in run:
            layer.sort(key=lambda n: _mean([rank[m] for m in near.get(n, ())], rank[n]))
            rank.update({name: (i + 0.5) / len(layer) for i, name in enumerate(layer)})
    return layers


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _align(
    layers: list[list[str]], known: dict[str, Box], links: Sequence[tuple[str, str]], *, sideways: bool, gap: float
) -> None:
    """Give boxes their place across the layers: near the mean of their neighbours, never overlapping."""
    before, after = _neighbours(links)
    size = {n: box.height if sideways else box.width for n, box in known.items()}
    middle: dict[str, float] = {}
    for layer in layers:
        at = -(sum(size[n] for n in layer) + gap * (len(layer) - 1)) / 2
        for name in layer:
            middle[name] = at + size[name] / 2
            at += size[name] + gap
    for sweep in range(_SWEEPS + 2):
        near, run = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in run:
            wish = [_mean([middle[m] for m in near.get(n, ())], middle[n]) for n in layer]
            middle.update(zip(layer, _spread(wish, [size[n] for n in layer], gap), strict=True))
    low = min((middle[n] - size[n] / 2 for n in known), default=0.0)
    for name, box in known.items():
        at = middle[name] - size[name] / 2 - low
        box.x, box.y = (box.x, at) if sideways else (at, box.y)


def _spread(wish: list[float], sizes: list[float], gap: float) -> list[float]:
    """Return the places nearest to the wished ones that keep the order and the gap: groups that meet move as one."""
    offset = [0.0]
    for a, b in pairwise(sizes):
        offset.append(offset[-1] + (a + b) / 2 + gap)
    groups: list[tuple[float, int]] = []
    for w, o in zip(wish, offset, strict=True):
        mean, count = w - o, 1
        while groups and groups[-1][0] > mean:
            other, n = groups.pop()
            mean, count = (mean * count + other * n) / (count + n), count + n
        groups.append((mean, count))
    flat = [mean for mean, count in groups for _ in range(count)]
    return [mean + o for mean, o in zip(flat, offset, strict=True)]


def _stack(layers: list[list[str]], known: dict[str, Box], *, sideways: bool, layer_gap: float) -> tuple[float, float]:
    at = 0.0
    for layer in layers:
        deep = max((known[n].width if sideways else known[n].height for n in layer), default=0.0)
        for name in layer:
            box = known[name]
            if box.dummy and sideways:  # an edge passes a layer straight, and bends only between layers
                box.width = deep
            elif box.dummy:
                box.height = deep
            if sideways:
                box.x = at + (deep - box.width) / 2
            else:
                box.y = at + (deep - box.height) / 2
        at += deep + layer_gap
    width = max((b.x + b.width for b in known.values()), default=0.0)
    height = max((b.y + b.height for b in known.values()), default=0.0)
    return width, height
