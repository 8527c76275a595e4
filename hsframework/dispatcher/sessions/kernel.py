"""The kernel's side of sessions: the sockets that are open, in each network namespace, and the end of some.

Everything here is for a thread beside the loop: a table of thousands of sockets takes its time.  Each call opens a
socket of its own in the namespace, for a RequestSocket is not for several threads.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from hsframework.configuration.rules import OWN_NAMESPACE
from hsframework.dispatcher.namespaces import network_namespace
from hsframework.errors import HsframeworkError
from hsframework.netlink.members import NETLINK_SOCK_DIAG
from hsframework.netlink.socket import RequestSocket
from hsframework.netlink.tcp_table import TcpSocket, can_end_sockets, connected_sockets, end_socket

ENDED, GONE = "ended", "gone"


@dataclass(frozen=True, slots=True)
class Table:
    """Connected TCP sockets of a namespace, by cookie.  ``problem``: reason why they are not known; empty: they are.

    ``asked_at``: seconds since the epoch, before the kernel was asked.  ``with_tls``: number of sockets with TLS in the
    kernel, ours among them, as the kernel counts them.
    """

    namespace: str
    asked_at: float
    sockets: dict[bytes, TcpSocket]
    problem: str = ""
    with_tls: int = 0


def tables(namespaces: Iterable[str]) -> list[Table]:
    """Return the tables of namespaces, as rules name them."""
    found = []
    for namespace in namespaces:
        asked_at = time.time()
        try:
            with _diag(namespace) as diag:
                sockets = {each.cookie: each for each in connected_sockets(diag)}
            found.append(Table(namespace, asked_at, sockets, with_tls=_with_tls(namespace)))
        except (HsframeworkError, OSError) as error:
            found.append(Table(namespace, asked_at, {}, str(error)))
    return found


def end(namespace: str, cookies: Iterable[bytes]) -> dict[bytes, str]:
    """End sockets.  Return for each :data:`ENDED`, :data:`GONE`, or the reason why it could not be ended."""
    results = dict.fromkeys(cookies, GONE)
    try:
        with _diag(namespace) as diag:
            for each in connected_sockets(diag):
                if results.get(each.cookie) == GONE:
                    results[each.cookie] = _end(diag, each)
    except (HsframeworkError, OSError) as error:
        return {cookie: str(error) if result == GONE else result for cookie, result in results.items()}
    return results


def refusal() -> str:
    """Return the reason why no socket can be ended; empty: the kernel does it."""
    try:
        with _diag(OWN_NAMESPACE) as diag:
            return can_end_sockets(diag)
    except (HsframeworkError, OSError) as error:
        return str(error)


def _end(diag: RequestSocket, each: TcpSocket) -> str:
    try:
        return ENDED if end_socket(diag, each) else GONE
    except HsframeworkError as error:
        return str(error)


def _with_tls(namespace: str) -> int:
    """Return the number of sockets with the kernel's TLS; 0 for a kernel without it.  Raises OSError."""
    with _within(namespace):
        try:
            text = Path("/proc/thread-self/net/tls_stat").read_text()
        except FileNotFoundError:
            return 0
    counts = {name: int(number) for name, number in map(str.split, text.splitlines())}
    # Each of a session's two directions is counted by itself.
    return max(counts.get(f"TlsCurr{way}Sw", 0) + counts.get(f"TlsCurr{way}Device", 0) for way in ("Tx", "Rx"))


def _within(namespace: str) -> AbstractContextManager[None]:
    """Return a context in which this thread is in a namespace.  Raises HsframeworkError, OSError."""
    return contextlib.nullcontext() if namespace == OWN_NAMESPACE else network_namespace(namespace)


@contextlib.contextmanager
def _diag(namespace: str) -> Iterator[RequestSocket]:
    """Open a socket in a namespace.  Raises HsframeworkError, OSError."""
    with _within(namespace):
        diag = RequestSocket(NETLINK_SOCK_DIAG)
    try:
        yield diag
    finally:
        diag.close()
