"""What building a signature from a string costs: `python tests/benchmarks/bench_signatures.py` prints one JSON object.

CPU time, medians of interleaved rounds. `again` is the same text built before, `new` a text never seen whose types were,
`first` one whose types are new too; each against DSPy's own construction of the same text in the same run.
"""

import json
import platform
import statistics
import time

import dspy
from pydantic import BaseModel

import dspex_nb as dx

ROUNDS, COUNT = 15, 200
TEXTS = {
    "question -> answer": "question{i} -> answer",
    "typed": "message{i}: str, history: list[str], limit: int = 3 -> desk: Literal['billing', 'tech, sales'], urgency: int, notes: Optional[dict[str, float]]",
    "own class": "doc{i}: Document, tags: list[str] -> out: list[Document], score: float",
}


class Document(BaseModel):
    """A class of the caller's, found by name."""

    title: str


def per_call_us(build, texts):
    started = time.process_time()
    for text in texts:
        build(text)
    return (time.process_time() - started) / len(texts) * 1e6


def theirs(text):
    return dspy.Signature(text, custom_types={"Document": Document})


def main():
    found = {name: {"again": [], "new": [], "first": [], "dspy": []} for name in TEXTS}
    number = 0
    for round_ in range(ROUNDS + 1):
        for name, shape in TEXTS.items():
            same, new, first = [shape.format(i="")] * COUNT, [], []
            for _ in range(COUNT // 4):
                number += 1
                new.append(shape.format(i=number))
                first.append(
                    shape.format(i=number).replace("str", f"Literal['a{number}']").replace("->", f", more: Literal[{number}] ->")
                )
            cost = {
                "again": per_call_us(dx.Signature, same),
                "new": per_call_us(dx.Signature, new),
                "first": per_call_us(dx.Signature, first),
                "dspy": per_call_us(theirs, same[: COUNT // 20]),
            }
            for what, value in cost.items():
                if round_:  # the first round warms up
                    found[name][what].append(value)
    rows = {
        name: {f"{what}_us": round(statistics.median(values), 1) for what, values in costs.items()}
        for name, costs in found.items()
    }
    for row in rows.values():
        row["dspy_over_again"] = round(row["dspy_us"] / row["again_us"], 1)
        row["dspy_over_new"] = round(row["dspy_us"] / row["new_us"], 1)
    worst = max(row["again_us"] for row in rows.values())
    print(
        json.dumps(
            {
                "signatures": rows,
                "again_us_worst": worst,
                "below_50_us": worst < 50,
                "rounds": ROUNDS,
                "python": platform.python_version(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
