"""Typed frozen records of what happens, and the bus that carries them."""

from dspex_nb.events.bus import Bus, Subscriber
from dspex_nb.events.ledger import Ledger
from dspex_nb.events.records import (
    Event,
    ItemYielded,
    LMCalled,
    LogWritten,
    Progress,
    RowScored,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    TokenReceived,
    TrialEnded,
    TrialStarted,
    from_json,
    to_json,
)

__all__ = [
    "Bus",
    "Event",
    "ItemYielded",
    "LMCalled",
    "Ledger",
    "LogWritten",
    "Progress",
    "RowScored",
    "RunEnded",
    "RunStarted",
    "StepEnded",
    "StepStarted",
    "Subscriber",
    "TokenReceived",
    "TrialEnded",
    "TrialStarted",
    "from_json",
    "to_json",
]
