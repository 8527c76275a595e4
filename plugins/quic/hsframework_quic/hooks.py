"""What this distribution registers (entry point group ``hsframework``)."""

from __future__ import annotations

from collections.abc import Iterable

from hsframework.hookspecs import hookimpl
from hsframework.interface import Protocol


@hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    from hsframework_quic.plugin import QuicProtocol

    return (QuicProtocol(),)
