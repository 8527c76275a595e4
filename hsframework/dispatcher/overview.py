"""Overview of the groups that are served: agents, sources, and requests of each, as the reply to ``groups``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.groups import Group
from hsframework.dispatcher.requests.request import PendingRequest


def overview(dispatcher: Dispatcher) -> Iterator[dict[str, Any]]:
    """Yield each group that is open or has requests, by name, as the attribute set ``group``."""
    requests: dict[str, list[PendingRequest]] = {}
    for request in dispatcher.requests.values():
        requests.setdefault(request.submission.group, []).append(request)
    for name, group in sorted(dispatcher.groups.items()):
        if group.open or name in requests:
            yield _group(dispatcher, group, requests.get(name, []))


def _group(dispatcher: Dispatcher, group: Group, requests: list[PendingRequest]) -> dict[str, Any]:
    in_flight = Counter(request.agent for request in requests if request.agent is not None)
    now = asyncio.get_running_loop().time()
    agents = [
        {
            "name": agent.name,
            "protocol": agent.protocol,
            "process": agent.peer.pid,
            "user": agent.peer.uid,
            "in-flight": in_flight[agent],
            "kernel-tls": agent.kernel_tls,
            "age": max(0, int(now - agent.joined_at)),
        }
        for agent in sorted(group.members, key=lambda agent: agent.name)
    ]
    return {
        "group": group.name,
        "waiting": len(group),
        "in-flight": in_flight.total(),
        "agent": agents,
        "source": list(_sources(dispatcher, group, requests)),
    }


def _sources(dispatcher: Dispatcher, group: Group, requests: list[PendingRequest]) -> Iterator[dict[str, Any]]:
    """Yield the sources that take requests of the group, and those that have taken some."""
    counts = Counter((request.submission.source.name, request.agent is None) for request in requests)
    numbers = {name: source.group_number(group.name) for name, source in dispatcher.sources.items() if group.open}
    taking = {name for name, number in numbers.items() if number is not None}
    for name in sorted(taking | {name for name, _ in counts}):
        yield {
            "name": name,
            "number": numbers.get(name) or None,
            "waiting": counts[name, True],
            "in-flight": counts[name, False],
        }
