"""Results of pure steps on the shared server: signed with the user's key, and looked at only if that key has signed them.

Nothing in them is pickled. Yet what is read back makes models and tables, so bytes of unknown origin are refused unread.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from dspex_nb.runs.keeping import pack_item, unpack_item

if TYPE_CHECKING:
    from dspex_nb.cache import Cache
    from dspex_nb.cache.redis_tier import RedisTier
    from dspex_nb.cache.signing import SigningKey

LARGEST_BYTES = 32 * 1024**2
_refused: set[str] = set()


def fetch(cache: Cache | None, key: str, folder: Path) -> bool:
    """Bring a step's result from the shared server into its local folder; False where there is none or it is refused."""
    from dspex_nb.cache.signing import SignatureError

    terms = _terms(cache)
    signed = terms[0].load_blob(key) if terms is not None else None
    if terms is None or signed is None:
        return False
    server, signing_key = terms
    try:
        unpack_item(folder, signing_key.checked(key, signed))
    except SignatureError:
        _say_refused(server)
        return False
    except (ValueError, OSError):
        server.faults += 1
        return False
    return True


def publish(cache: Cache | None, key: str, folder: Path, ttl_s: float | None) -> None:
    """Put a step's result, as it lies in its local folder, on the shared server; the largest stay here."""
    terms = _terms(cache)
    if cache is None or terms is None:
        return
    server, signing_key = terms
    with contextlib.suppress(OSError):  # it went meanwhile
        packed = pack_item(folder)
        if len(packed) <= LARGEST_BYTES:
            server.dump_blob(key, signing_key.sign(key, packed), cache.ttl_s if ttl_s is None else ttl_s)


def _terms(cache: Cache | None) -> tuple[RedisTier, SigningKey] | None:
    """Return the server and the key to sign with, None where steps are not shared."""
    server, signing_key = getattr(cache, "remote", None), getattr(cache, "signing_key", None)
    return None if server is None or signing_key is None else (server, signing_key)


def _say_refused(server: RedisTier) -> None:
    server.faults += 1
    if server.where not in _refused:
        _refused.add(server.where)
        warnings.warn(
            f"a step's result on {server.where} was not signed with this signing key, so it was refused unread and the step "
            "runs. Give every machine that shares results the same key: $DSPEX_SIGNING_KEY, or signing.key in the DSPEX home.",
            RuntimeWarning,
            stacklevel=6,
        )
