"""Opening a TCP connection so that a stop breaks it off: neither a silent host nor a slow name server holds the cell."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
import threading
import urllib.request
from typing import Any

from dspex_nb.scopes import CancelToken
from dspex_nb.transport.records import Deadline

CONNECT_TIMEOUT_S = 15.0


def dial(host: str, port: int, deadline: Deadline, cancel: CancelToken) -> socket.socket:
    """Return a connected socket.

    Raises:
        OSError: No address of the host accepted; the last address's reason.
        TimeoutError: Nothing answered in time.
    """
    last: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in _resolve(host, port, deadline, cancel):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(min(deadline.left_s(), CONNECT_TIMEOUT_S))
        unregister = cancel.on_cancel(functools.partial(hang_up, sock))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            cancel.check()
            last = error
        except BaseException:  # KeyboardInterrupt leaves no socket behind
            sock.close()
            raise
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        finally:
            unregister()
        cancel.check()
    raise last


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the URL of the proxy that the environment names for a host, or None; loopback never has one."""
    if host in {"localhost", "::1"} or host.startswith("127."):
        return None
    proxies = urllib.request.getproxies_environment()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(host):
        return None
    return found if "//" in found else f"http://{found}"


def hang_up(sock: socket.socket) -> None:
    """Break a socket off from any thread: shutdown wakes whoever is blocked reading it, which close alone does not."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _resolve(host: str, port: int, deadline: Deadline, cancel: CancelToken) -> list[tuple[Any, ...]]:
    if _is_address(host):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return _resolve_aside(host, port, deadline, cancel)


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolve_aside(host: str, port: int, deadline: Deadline, cancel: CancelToken) -> list[tuple[Any, ...]]:
    # getaddrinfo cannot be interrupted, so a daemon thread asks and the caller stays interruptible.
    found: list[list[tuple[Any, ...]]] = []
    failed: list[OSError] = []
    done = threading.Event()

    def ask() -> None:
        try:
            found.append(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            failed.append(error)
        except ValueError:  # an empty label, or one that is too long
            failed.append(OSError(f"{host!r} is no host name"))
        done.set()

    threading.Thread(target=ask, name=f"dspex-resolve-{host}", daemon=True).start()
    unregister = cancel.on_cancel(done.set)
    try:
        in_time = done.wait(min(deadline.left_s(), CONNECT_TIMEOUT_S))
    finally:
        unregister()
    cancel.check()
    if not in_time:
        raise TimeoutError
    if failed:
        raise failed[0]
    return found[0]
