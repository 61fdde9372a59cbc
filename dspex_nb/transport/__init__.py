"""HTTP, and the only room that knows it: a blocking and an async way to post, with shared limits and one set of errors."""

from dspex_nb.transport.blocking import close_idle, get, hang_up_all, post, send, stream_lines
from dspex_nb.transport.limits import Limiter, Slot, Start, asleep, limiter_of, sleep
from dspex_nb.transport.nonblocking import aget, apost, astream_lines
from dspex_nb.transport.records import Reply
from dspex_nb.transport.redaction import basic_auth, host_of, redact, shown_address, without_userinfo

__all__ = [
    "Limiter",
    "Reply",
    "Slot",
    "Start",
    "aget",
    "apost",
    "asleep",
    "astream_lines",
    "basic_auth",
    "close_idle",
    "get",
    "hang_up_all",
    "host_of",
    "limiter_of",
    "post",
    "redact",
    "send",
    "shown_address",
    "sleep",
    "stream_lines",
    "without_userinfo",
]
