"""Which slots are held by sessions. The pool's lock guards it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dspex_nb.errors import PoolFullError
from dspex_nb.pools.lanes import Lane
from dspex_nb.pools.tasks import Lease, Task
from dspex_nb.pools.watch import TICK_S


class Leases:
    """Gives slots to keys, at most `quota` at once, and takes them back; `given_back` is called with each that ended."""

    def __init__(self, lanes: Sequence[Lane], quota: int, given_back: Callable[[Lease], None]) -> None:
        self._lanes, self._quota, self._given_back = lanes, quota, given_back
        self._held: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._held)

    def find(self, key: str, initializer: Task | None, ttl_s: float | None, *, idle: bool) -> Lease | None:
        """Join the session of that key, or give it a slot; None if there is none. `idle` asks for one without a task."""
        if key in self._held:
            self._held[key].holders += 1
            return self._held[key]
        lane = self._lane(idle=idle) if len(self._held) < self._quota else None
        if lane is None:
            return None
        lane.lease = self._held[key] = Lease(key, lane.index, initializer, ttl_s)
        return lane.lease

    def release(self, lease: Lease) -> None:
        """Let go of a session; the last holder ends it, unless it has a time to live."""
        lease.holders -= 1
        if not lease.over and not lease.holders and lease.ttl_s is None:
            self._end(lease, "was closed")

    def look(self, now: float) -> float:
        """End the sessions whose time has passed; return when to look again."""
        following = float("inf")
        for lease in list(self._held.values()):
            left_s = lease.left_s(now)
            if left_s <= 0:
                self._end(lease, f"was given back after {lease.ttl_s:g} s without a call")
            else:
                following = min(following, now + max(left_s, TICK_S))
        return following

    def end_all(self, why: str) -> None:
        """End every session."""
        for lease in list(self._held.values()):
            self._end(lease, why)

    def refusal(self, key: str, pool: str) -> PoolFullError:
        """Return the error for a session that finds no slot."""
        keys = ", ".join(map(repr, self._held)) or "none"
        return PoolFullError(
            f"session {key!r}: no slot of pool {pool!r} is free ({len(self._lanes)} slots, sessions open: {keys})",
            hint="close a session, make the pool larger, or wait with a longer wait_s",
        )

    def _lane(self, *, idle: bool) -> Lane | None:
        lanes = [lane for lane in self._lanes if lane.lease is None and not (idle and (lane.task is not None or lane.own))]
        return min(lanes, key=lambda lane: (lane.task is not None, not lane.idle, len(lane.own), lane.index), default=None)

    def _end(self, lease: Lease, why: str) -> None:
        lease.over = why
        self._held.pop(lease.key, None)
        self._lanes[lease.lane].lease = None
        self._given_back(lease)
