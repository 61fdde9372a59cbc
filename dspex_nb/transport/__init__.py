"""HTTP, and the only room that knows it: a blocking and an async way to post, with shared limits and one set of errors."""

from dspex_nb.transport.blocking import close_idle, get, hang_up_all, post, stream_lines
from dspex_nb.transport.limits import Limiter, asleep, sleep
from dspex_nb.transport.nonblocking import apost, astream_lines
from dspex_nb.transport.records import Reply
from dspex_nb.transport.redaction import host_of, redact

__all__ = [
    "Limiter",
    "Reply",
    "apost",
    "asleep",
    "astream_lines",
    "close_idle",
    "get",
    "hang_up_all",
    "host_of",
    "post",
    "redact",
    "sleep",
    "stream_lines",
]
