"""The table of what each backend keeps of the pools' promises, made from a run of the suites.

    pytest -p dspex_nb.testing.pool_table --pools-table docs/pools-table.md tests/conformance/test_pools.py …

Backends that did not run keep their column. With `--check-pools-table` instead, the run fails where it contradicts a table that
was written before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex_nb.testing.pool_promises import PROMISES

_HEAD = "<!-- Generated from a run of the conformance suites, see dspex_nb/testing/pool_table.py; do not edit. -->"
_ORDER = ("thread", "loky", "dask", "ray")


@dataclass
class Outcomes:
    """What the tests of each backend said of each promise: passed, and why not or only partly."""

    seen: dict[str, dict[str, list[tuple[str, str]]]] = field(default_factory=dict)

    def add(self, backend: str, promise: str, outcome: str, reason: str) -> None:
        """Note one test: `"passed"` (with a reason: partly), `"skipped"` or `"failed"`."""
        self.seen.setdefault(backend, {}).setdefault(promise, []).append((outcome, reason))

    def cell(self, backend: str, promise: str) -> str:
        """Return yes, partly or no with the reason, FAILED, or an empty text where no test ran."""
        found = self.seen.get(backend, {}).get(promise, [])
        if any(outcome == "failed" for outcome, _ in found):
            return "FAILED"
        reasons = "; ".join(dict.fromkeys(reason for _, reason in found if reason))
        kept = any(outcome == "passed" for outcome, _ in found)
        if not found:
            return ""
        return f"{'partly' if kept else 'no'}: {reasons}" if reasons else "yes"


def table(outcomes: Outcomes, before: Mapping[str, Mapping[str, str]]) -> str:
    """Return the table as Markdown; backends that did not run keep their column of the table `before`."""
    columns = {name: dict(cells) for name, cells in before.items()}
    columns |= {name: {promise: outcomes.cell(name, promise) for promise in PROMISES} for name in outcomes.seen}
    columns = {name: columns[name] for name in dict.fromkeys([*_ORDER, *columns]) if name in columns}
    rows = [("Promise", *(f"`{name}`" for name in columns)), ("---",) * (len(columns) + 1)]
    rows += [(promise, *(cells.get(promise, "") for cells in columns.values())) for promise in PROMISES]
    return "\n".join([_HEAD, "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def read_table(text: str) -> dict[str, dict[str, str]]:
    """Return a written table's cells, by backend and promise."""
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    backends = [name.strip("`") for name in rows[0][1:]]
    return {name: {row[0]: row[at + 1] for row in rows[2:]} for at, name in enumerate(backends)}


def differences(outcomes: Outcomes, written: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    """Yield where a run and a written table contradict each other; what did not run contradicts nothing."""
    for backend, promises in outcomes.seen.items():
        for promise in promises:
            now, then = outcomes.cell(backend, promise), written.get(backend, {}).get(promise, "")
            if now != then:
                yield f"{backend}: {promise}: the table says {then!r}, this run {now!r}"


# The plugin

_outcomes = Outcomes()


def pytest_addoption(parser: Any) -> None:
    """Add the options."""
    parser.addoption("--pools-table", metavar="FILE", help="write what each backend of the pools keeps of its promises")
    parser.addoption("--check-pools-table", metavar="FILE", help="fail where a whole run contradicts that file")


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    """Hand what the suite says of the test on to where the report is read, maybe in another process."""
    promise = getattr(getattr(item, "function", None), "promise", None)
    if promise is not None and call.when == "call":
        suite = item.cls
        item.user_properties += [("pool", (suite.backend, promise, suite.partly.get(item.originalname, "")))]


def pytest_runtest_logreport(report: Any) -> None:
    """Note a test's outcome."""
    if report.when != "call" and report.outcome != "failed":
        return
    for name, told in report.user_properties:
        if name == "pool":
            backend, promise, reason = told
            if report.outcome == "skipped":
                reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            _outcomes.add(backend, promise, report.outcome, reason)


def pytest_sessionfinish(session: Any) -> None:
    """Write or check the table, in the process that has all reports."""
    config = session.config
    if hasattr(config, "workerinput") or not _outcomes.seen:
        return
    out, check = config.getoption("--pools-table"), config.getoption("--check-pools-table")
    if out:
        before = read_table(Path(out).read_text(encoding="utf-8")) if Path(out).exists() else {}
        Path(out).write_text(table(_outcomes, before), encoding="utf-8")
    elif check and Path(check).exists() and not config.getoption("keyword") and not session.shouldfail:
        found = list(differences(_outcomes, read_table(Path(check).read_text(encoding="utf-8"))))
        for line in found:
            config.get_terminal_writer().line(f"\ndocs and run differ: {line}", red=True)
        if found:
            session.exitstatus = 1
