"""Traces: the messages of the next handshakes with some peers, for whoever asks.

* An agent that takes a request of such a peer is told (attribute ``trace``), and sends TRACED before DONE.
* Nobody else pays for it: without a trace, the core calls nothing at the end of a request, and ACCEPT asks nothing.
* A trace ends after so many handshakes, after its time, or when the link of whoever has asked has ended.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import PendingRequest
from hsframework.errors import RequestRefused
from hsframework.telemetry.log import redact

MOST_TRACES = 8
MOST_HANDSHAKES = 1000
MOST_SECONDS = 600
MOST_STEPS = 32_768
"""Bytes of an agent's report that are kept."""

Answer = Callable[[Sequence[str], bool], object]
"""Function that sends reports; True: further ones may come."""
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True, eq=False)
class _Trace:
    """One trace.  ``begun``: on the loop's clock.  ``left``: number of handshakes that are still to be reported.
    ``is_over``: True if nobody waits for it."""

    network: _Network
    begun: float
    left: int
    answer: Answer
    is_over: Callable[[], bool]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Traces:
    """The traces of a dispatcher."""

    dispatcher: Dispatcher
    loop: asyncio.AbstractEventLoop
    open: list[_Trace] = field(default_factory=list)
    """Traces that are under way."""
    _steps: dict[int, str] = field(default_factory=dict)
    _before: Callable[[PendingRequest, Mapping[str, Any]], None] | None = None

    def begin(self, values: Mapping[str, Any], answer: Answer, is_over: Callable[[], bool]) -> None:
        """Begin a trace, by the attribute set ``trace``.  Raises RequestRefused."""
        self._drop_those_over()
        count, seconds = values.get("count", 1), values.get("seconds", 60)
        try:
            network = ipaddress.ip_network(values.get("peer", ""), strict=False)
        except ValueError:
            raise RequestRefused("a trace names a peer by its address or network", errno=errno.EINVAL) from None
        if not 1 <= count <= MOST_HANDSHAKES or not 1 <= seconds <= MOST_SECONDS:
            most = f"{MOST_HANDSHAKES} handshakes and {MOST_SECONDS} seconds"
            raise RequestRefused(f"a trace has from 1 to {most}", errno=errno.EINVAL)
        if len(self.open) >= MOST_TRACES:
            raise RequestRefused(f"{MOST_TRACES} traces are under way", errno=errno.EAGAIN)
        if not self.open:
            self._before, self.dispatcher.ended = self.dispatcher.ended, self._ended
        trace = _Trace(network, self.loop.time(), count, answer, is_over)
        trace.timer = self.loop.call_later(seconds, self._over, trace)
        self.open.append(trace)

    def wants(self, peer_address: str | None) -> bool:
        """Return True if a handshake with a peer is to be traced.  ``peer_address``: as a request has it."""
        return bool(self._of(peer_address))

    def traced(self, number: int, steps: str) -> None:
        """Keep an agent's report of a request until that is over."""
        if self.open:
            self._steps[number] = steps[:MOST_STEPS]

    def close(self) -> None:
        """End all traces."""
        for trace in list(self.open):
            self._over(trace)

    def _of(self, peer_address: str | None) -> list[_Trace]:
        host = (peer_address or "").rpartition(":")[0].strip("[]").partition("%")[0]
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return []
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        return [trace for trace in self.open if address in trace.network]

    def _ended(self, request: PendingRequest, fields: Mapping[str, Any]) -> None:
        if self._before is not None:
            self._before(request, fields)
        steps = self._steps.pop(request.id, "[]")
        begun = request.taken_at if request.pulled_at is None else request.pulled_at
        # An agent that had it before was told nothing.
        found = [trace for trace in self._of(request.custody.peer_address) if trace.begun <= begun]
        if not found:
            return
        report = json.dumps({**redact(None, "", dict(fields)), "steps": steps})
        for trace in found:
            trace.left -= 1
            trace.answer([report], trace.left > 0)
            if not trace.left:
                self._forget(trace)
        self._drop_those_over()

    def _drop_those_over(self) -> None:
        for trace in list(self.open):
            if trace.is_over():
                self._forget(trace)

    def _over(self, trace: _Trace) -> None:
        if not trace.is_over():
            trace.answer([], False)
        self._forget(trace)

    def _forget(self, trace: _Trace) -> None:
        self.open.remove(trace)
        if trace.timer is not None:
            trace.timer.cancel()
        if not self.open:
            self.dispatcher.ended, self._before = self._before, None
            self._steps.clear()
