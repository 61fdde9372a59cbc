"""What `%dspex status`, `%dspex cache` and `%dspex pools` show, and plain tables for the other lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dspex_nb.views.formats import bytes_text, cost_text, count_text, plural
from dspex_nb.views.markup import AMBER, Html, bar, frame, heading, join, muted, notice, section
from dspex_nb.views.tables import Column, facts_html, facts_text, number, table_html, table_text


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """A cache and what it saved.

    Attributes:
        hits_memory: Requests served from memory.
        hits_disk: Requests served from disk.
        misses: Requests that had to be sent.
        entries: Responses on disk.
        size_bytes: Their size.
        limit_bytes: The most they may take, 0 for no limit.
        directory: Where they lie, empty if nothing is kept on disk.
        memory_entries: Responses in memory.
        saved_cost: US dollars not spent as far as prices were known, None if none was.
        saved_tokens: Tokens not used.
        unpriced_hits: Hits on answers of unknown price, which `saved_cost` leaves out.
        saved_s: Seconds not waited, None if unknown.
        faults: Damaged or foreign entries skipped, and writes that failed.
        hits_redis: Requests served from the shared server.
        redis: The shared server, empty without one; `redis_entries` lie on it.
        redis_down: Why it does not answer, empty while it does.
    """

    hits_memory: int = 0
    hits_disk: int = 0
    misses: int = 0
    entries: int = 0
    size_bytes: int = 0
    limit_bytes: int = 0
    directory: str = ""
    memory_entries: int = 0
    saved_cost: float | None = None
    saved_s: float | None = None
    faults: int = 0
    saved_tokens: int = 0
    unpriced_hits: int = 0
    hits_redis: int = 0
    redis: str = ""
    redis_entries: int = 0
    redis_down: str = ""

    @property
    def hits(self) -> int:
        """Requests served, from any tier."""
        return self.hits_memory + self.hits_disk + self.hits_redis


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """A pool: its name, backend, slots, and how many tasks are running, waiting, done and failed."""

    name: str
    backend: str = "thread"
    size: int = 0
    running: int = 0
    waiting: int = 0
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class StatusInfo:
    """The notebook's session.

    Attributes:
        lm: The model string, empty if none is set.
        lm_facts: More on the model (where it is served, its options), as names and values.
        adapter: The adapter's name, or that the LM's own is used.
        cache: The cache, None if there is none.
        pools: Pools that exist.
        calls: LM requests sent in this session.
        cache_hits: Those served from the cache.
        prompt_tokens: Tokens in.
        completion_tokens: Tokens out.
        cost: US dollars paid, as far as prices are known, workers and studies included; None if none is.
        unknown: Calls of unknown price.
        saved: US dollars that cache hits would have cost, as far as that is known.
        unpriced_hits: Cache hits of which it is not.
        budget: How the budget stands, empty without one.
        version: dspex_nb's version.
        notes: Sentences on what wants attention.
    """

    lm: str = ""
    lm_facts: Sequence[tuple[str, Any]] = ()
    adapter: str = ""
    cache: CacheInfo | None = None
    pools: Sequence[PoolInfo] = ()
    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    version: str = ""
    notes: Sequence[str] = ()
    unknown: int = 0
    saved: float = 0.0
    unpriced_hits: int = 0
    budget: str = ""


def _cache_facts(info: CacheInfo) -> list[tuple[str, str]]:
    hits = info.hits
    share = f" ({hits / (hits + info.misses):.0%} of {plural(hits + info.misses, 'request')})" if hits + info.misses else ""
    limit = f" of {bytes_text(info.limit_bytes)}" if info.limit_bytes else ""
    facts = [
        ("hits", f"{count_text(hits)}{share}: {_by_tier(info)}"),
        ("misses", count_text(info.misses)),
        ("in memory", plural(info.memory_entries, "response")),
        ("on disk", f"{plural(info.entries, 'response')}, {bytes_text(info.size_bytes)}{limit}" if info.directory else "off"),
    ]
    return [*facts, *_cache_rest(info)]


def _by_tier(info: CacheInfo) -> str:
    shared = f", {count_text(info.hits_redis)} shared" if info.redis else ""
    return f"{count_text(info.hits_memory)} memory, {count_text(info.hits_disk)} disk{shared}"


def _cache_rest(info: CacheInfo) -> list[tuple[str, str]]:
    """Facts that belong to no tier."""
    facts = [("directory", info.directory)] if info.directory else []
    if info.redis:
        facts.append(("shared", f"{info.redis}{f', does not answer: {info.redis_down}' if info.redis_down else ''}"))
    facts += [("saved", _saved(info))] if info.hits else []
    facts += [("time saved", f"{info.saved_s:,.0f} s")] if info.saved_s else []
    return (
        [*facts, ("faults", f"{count_text(info.faults)} (entries that could not be read, writes that were refused)")]
        if info.faults
        else facts
    )


def _saved(info: CacheInfo) -> str:
    hits, unknown = info.hits, info.unpriced_hits
    money = "unknown" if unknown >= hits else cost_text(info.saved_cost) if info.saved_cost else "nothing to pay"
    rest = f", and {plural(unknown, 'hit')} of unknown price" if 0 < unknown < hits else ""
    tokens = f"; {plural(info.saved_tokens, 'token')}" if info.saved_tokens else ""
    return f"{money}{rest}{tokens}"


def _cache_columns() -> list[Column]:
    return [Column("Answered from"), *(number(name) for name in ("Requests", "Share", "Responses kept", "Size", "Limit"))]


def _cache_rows(info: CacheInfo) -> list[tuple[str, ...]]:
    asked = info.hits + info.misses

    def row(name: str, count: int, *kept: str) -> tuple[str, ...]:
        return (name, count_text(count), f"{count / asked:.0%}" if asked else "", *kept)

    disk = (count_text(info.entries), bytes_text(info.size_bytes), bytes_text(info.limit_bytes) if info.limit_bytes else "")
    shared = "" if info.redis_down else count_text(info.redis_entries)
    return [
        row("memory", info.hits_memory, count_text(info.memory_entries), "", ""),
        row("disk", info.hits_disk, *(disk if info.directory else ("off", "", ""))),
        *([row("shared server", info.hits_redis, shared, "", "")] if info.redis else []),
        row("none" if info.redis else "neither", info.misses, "", "", ""),
    ]


def cache_html(info: CacheInfo, note: str = "") -> str:
    """Draw a cache's statistics as HTML; `note` says what was just done to it."""
    hits = info.hits
    share = bar(hits / (hits + info.misses)) if hits + info.misses else ""
    table = table_html(_cache_columns(), _cache_rows(info))
    return frame(heading("cache", muted(note) if note else ""), share, table, facts_html(_cache_rest(info)))


def cache_text(info: CacheInfo, note: str = "") -> str:
    """Write a cache's statistics as text."""
    rest = facts_text(_cache_rest(info))
    parts = [f"cache {note}".rstrip(), table_text(_cache_columns(), _cache_rows(info)), *([rest] if rest else [])]
    return "\n".join(parts)


def _pool_rows(pools: Sequence[PoolInfo]) -> list[tuple[str, ...]]:
    return [(p.name, p.backend, *(count_text(n) for n in (p.size, p.running, p.waiting, p.done, p.failed))) for p in pools]


def _pool_columns() -> list[Column]:
    return [Column("Pool"), Column("Backend"), *(number(name) for name in ("Slots", "Running", "Waiting", "Done", "Failed"))]


def pools_html(pools: Sequence[PoolInfo]) -> str:
    """Draw the pools as HTML."""
    return frame(
        heading("pools"), table_html(_pool_columns(), _pool_rows(pools), empty="no pool yet; one is made when it is first used")
    )


def pools_text(pools: Sequence[PoolInfo]) -> str:
    """Write the pools as text."""
    return table_text(_pool_columns(), _pool_rows(pools)) if pools else "no pool yet"


def _facts(info: StatusInfo) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [("LM", info.lm or "none set: %dspex lm local")]
    facts += [(f"  {name}", value) for name, value in info.lm_facts]
    facts += [("adapter", info.adapter)] if info.adapter else []
    tokens = f"{count_text(info.prompt_tokens)} tokens in, {count_text(info.completion_tokens)} out"
    facts += [("calls", f"{plural(info.calls, 'LM call')}, {count_text(info.cache_hits)} more from cache; {tokens}")]
    facts += [("spent", _spent(info))]
    return [*facts, ("budget", info.budget)] if info.budget else facts


def _spent(info: StatusInfo) -> str:
    """Paid, saved and unknown, apart."""
    priced, hits = info.calls - info.unknown, info.cache_hits - info.unpriced_hits
    parts = [f"{cost_text(info.cost)} paid" if info.cost else "nothing paid" if priced or not info.calls else ""]
    parts += [f"{cost_text(info.saved)} saved by the cache" if info.saved else "nothing saved"] if hits else []
    parts += [f"{plural(info.unknown, 'call')} of unknown price"] if info.unknown else []
    parts += [f"{plural(info.unpriced_hits, 'hit')} of unknown price"] if info.unpriced_hits else []
    return ", ".join(filter(None, parts))


def status_html(info: StatusInfo) -> str:
    """Draw the session's state as HTML."""
    facts = [(name, muted(value) if name.startswith("  ") else value) for name, value in _facts(info)]
    parts = [heading("dspex_nb", muted(info.version)), facts_html(facts)]
    parts += [section("Cache"), facts_html(_cache_facts(info.cache))] if info.cache else []
    parts += [section("Pools"), table_html(_pool_columns(), _pool_rows(info.pools))] if info.pools else []
    return frame(*parts, *(notice(note, color=AMBER) for note in info.notes))


def status_text(info: StatusInfo) -> str:
    """Write the session's state as text."""
    parts = [f"dspex_nb {info.version}".rstrip(), facts_text(_facts(info))]
    parts += [f"cache\n{facts_text(_cache_facts(info.cache))}"] if info.cache else []
    parts += [pools_text(info.pools)] if info.pools else []
    return "\n".join([*parts, *info.notes])


def listing_html(
    title: str, columns: Sequence[Column | str], rows: Sequence[Sequence[object]], *, note: str = "", empty: str = "none"
) -> str:
    """Draw any list as a titled table, e.g. `%dspex runs` and `%dspex doctor`."""
    return frame(heading(title, muted(note) if note else ""), table_html(columns, rows, limit=None, empty=empty))


def message_html(title: str, text: str = "", *, color: str = AMBER) -> str:
    """Draw one message in a box."""
    return frame(notice(title, join(muted(text)) if text else Html(""), color=color))
