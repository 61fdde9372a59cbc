"""Classes of cells, saved and exported with the functions that use them: decorators, bases, what their bodies read."""

from __future__ import annotations

import pytest

import dspex_nb as dx
from dspex_nb.testing import TestingShell

CELL = """
import enum, typing
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Optional

BASE = 10
x = "a variable that a field of Point is called like"

def first() -> int:
    return BASE

@dataclass(order=True)
class Point:
    x: int
    y: int = field(default_factory=first)

    @property
    def total(self) -> int:
        return self.x + self.y + BASE

class Pair(NamedTuple):
    left: Point
    right: Optional[str] = None

class Size(enum.Enum):
    SMALL = "small"

    def loud(self) -> str:
        return self.value.upper()

def point(text: str) -> Point:
    return Point(len(text))

def pair(p: Point, mode: Literal["a", "b"] = "a") -> Pair:
    return Pair(p, mode)

def told(q: Pair, more: typing.Any = None) -> list:
    return [q.left.total, q.right, Size.SMALL.loud()]
"""
PIPELINE = "%%pipeline shapes --quiet\ntext: str\np = point\nq = pair\nt = told"


@pytest.fixture
def shapes(fresh):
    with TestingShell() as shell:
        shell.run(CELL)
        shell.run(PIPELINE)
        yield shell.user_ns["shapes"]


def test_a_saved_pipeline_has_its_classes(shapes, tmp_path):
    path = shapes.save(tmp_path / "shapes.json")
    assert "a variable that" not in path.read_text()
    again = dx.load(path, trust=True)
    assert again(text="abc").t == shapes(text="abc").t == [23, "a", "SMALL"]
    assert dx.load(again.save(tmp_path / "twice.json"), trust=True)(text="abc").t == [23, "a", "SMALL"]


def test_so_has_an_exported_one(shapes):
    source = shapes.to_python()
    assert "@dataclass(order=True)\nclass Point:" in source
    space = {"__name__": "__main__"}
    exec(compile(source, "shapes.py", "exec"), space)  # noqa: S102 - what export wrote is what is tested
    assert space["shapes"](text="abc").t == [23, "a", "SMALL"]


def test_a_loaded_class_goes_to_a_worker_and_back(shapes, tmp_path):
    again = dx.load(shapes.save(tmp_path / "shapes.json"), trust=True)
    pool = dx.pool("shapes", size=1, backend="loky")
    try:
        assert pool.submit(again.spec["p"].callable, "abc").result(60).total == 23
    finally:
        pool.close()
