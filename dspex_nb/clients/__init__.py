"""Clients: one model each, whatever serves it. `connect(model)` makes one."""

from dspex_nb.clients.client import Client
from dspex_nb.clients.connecting import connect
from dspex_nb.clients.settings import Settings

__all__ = ["Client", "Settings", "connect"]
