"""Run the conformance suite over stores by name, record what it showed, and write the table: the rows of docs/retrievers.md.

    .venv/bin/python tests/services/prove_stores.py faiss redis   # these; their extras must be installed
    .venv/bin/python tests/services/prove_stores.py --imports     # import the classes of services that are reached by LangChain's
    .venv/bin/python tests/services/prove_stores.py --table       # the table alone

A row is recorded as shown only if every test of it passed. Run stores whose packages conflict from another environment.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROOFS = ROOT / "dspex_nb" / "retrieval" / "proofs.json"
TABLE = ROOT / "docs" / "retrievers.md"
FILES = [
    "tests/unit/retrieval/test_suite.py",
    "tests/conformance/test_retrievers.py",
    "tests/services/test_stores.py",
    "tests/services/test_wires.py",
]
MARK = "<!-- the table below is written by tests/services/prove_stores.py -->"
FIGURES = ("add_s", "search_ms", "recall_at_1")


def main(names):
    if names != ["--table"]:
        found = imports() if names == ["--imports"] else run(names)
        proofs = {**json.loads(PROOFS.read_text()), **found}  # read late: another run may have written meanwhile
        PROOFS.write_text(json.dumps(dict(sorted(proofs.items())), indent=1) + "\n")
    write_table(json.loads(PROOFS.read_text()))


def run(names):
    """Run the classes called like the stores, in one process, and return a proof for each row whose tests all passed."""
    classes = ["Test" + "".join(part.title() for part in re.split(r"[^a-z0-9]+", name.lower())) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            *[one for one in FILES if (ROOT / one).exists()],
            "-q",
            "-p",
            "no:xdist",
            "-W",
            "ignore::pytest.PytestWarning",
        ]
        ended = subprocess.run([*command, "-k", " or ".join(classes), f"--junitxml={report}"], cwd=ROOT, check=False)
        if ended.returncode not in (0, 1):  # a report of a run that was broken off holds only what had passed until then
            sys.exit(f"pytest ended with {ended.returncode}: nothing is recorded")
        cases = defaultdict(list)
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
            said = {one.get("name"): one.get("value") for one in case.iter("property")}
            if "row" in said:
                cases[said["row"]].append((said, case))
    return {row: proof for row, found in cases.items() if (proof := proof_of(row, found))}


def imports():
    """Import each class of the tail whose package is here; nothing of it is called."""
    from dspex_nb.retrieval.tail import TAIL, class_of

    found = {}
    for name in TAIL:
        try:
            class_of(name)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}")
            continue
        print(f"{name}: imported")
        date = dt.datetime.now(dt.UTC).date().isoformat()
        found[name] = {"kind": name, "label": "import-only", "tests": 0, "version": versions(name), "date": date}
    return found


def proof_of(row, found):
    bad = [case.get("name") for _, case in found if any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))]
    print(f"{row}: {len(found) - len(bad)} passed" + (f", not: {', '.join(bad)}" if bad else ""))
    if bad:
        return None
    said = {name: value for one, _ in found for name, value in one.items()}
    figures = {name: float(f"{float(said[name]):.3g}") for name in FIGURES if name in said}
    return {
        "kind": said["kind"],
        "label": said.get("label", "live"),
        "tests": len(found),
        "version": versions(said["kind"], said.get("packages")),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        **({"features": said["features"]} if "features" in said else {}),
        **figures,
    }


def versions(kind, packages=None):
    """The versions of the packages that a kind's extra names, or of these."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = packages.split() if packages else [re.split(r"[\[<>=;~! ]", one)[0] for one in extras.get(kind, [])]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def write_table(proofs):
    from dspex_nb.retrieval.registry import KINDS, features_of

    order = list(KINDS)
    lines = [
        "| name | install | features | label | client | tests | 10,000 added, s | search, ms | recall@1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = sorted(proofs.items(), key=lambda item: (order.index(item[1]["kind"]) if item[1]["kind"] in order else 999, item[0]))
    for row, proof in rows:
        kind = KINDS[proof["kind"]]
        install = f"`dspex_nb[{kind.extra}]`" if kind.extra else ""
        figures = [f"{proof[name]:g}" if name in proof else "" for name in FIGURES]
        cells = [
            row,
            install,
            proof.get("features") or ", ".join(features_of(kind)),
            proof["label"],
            proof["version"],
            str(proof["tests"] or ""),
            *figures,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    head = TABLE.read_text().split(MARK)[0] if TABLE.exists() else "# Retrievers\n\n"
    counts = defaultdict(int)
    for proof in proofs.values():
        counts[proof["label"]] += 1
    summary = ", ".join(f"{count} {label}" for label, count in counts.items())
    TABLE.write_text(f"{head}{MARK}\n\n{len(proofs)} rows: {summary}.\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
