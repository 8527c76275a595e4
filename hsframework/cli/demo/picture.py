"""The demonstration's output: a drawing of one handshake, and the table of all outcomes.  At most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hsframework.cli.demo.exchange import DATA, Outcome
from hsframework.cli.demo.processes import ProcessFacts
from hsframework.errors import errno_name

WIDTH = 100
_LINE = "{:>2} {:6} {:32} {:38} {:>6} {:5} {}"
"""The longest outcome is AES_128_GCM X25519MLKEM768 sunrpc kTLS, by peers with OpenSSL 3.5."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The processes that took part, and the start-up times of the service in seconds."""

    consumer: ProcessFacts
    dispatcher: ProcessFacts
    agents: Mapping[str, ProcessFacts]
    """Worker of each agent, by protocol."""
    dispatcher_start: float
    agent_start: float


_COLUMNS = (3, 29, 56, 84)
_LIFELINES = tuple(column + 3 for column in _COLUMNS)
_CONSUMER, _DISPATCHER, _AGENT, _PEER = range(4)


def picture(cast: Cast, outcome: Outcome) -> str:
    """Draw the steps of a handshake between the processes, with its timings."""
    peers = outcome.scenario.peers
    processes = (cast.consumer, cast.dispatcher, cast.agents[peers.protocol])
    return "\n".join(
        (
            _heads("CONSUMER", "DISPATCHER", f"AGENT {peers.protocol}", "PEER"),
            _heads(*(f"pid {process.pid}" for process in processes), f"pid {outcome.peer_pid}"),
            _heads(*(f"uid {process.uid}" for process in processes), peers.name),
            _heads(*(_capabilities(process) for process in processes), outcome.scenario.program),
            _arrows(),
            _arrows((_CONSUMER, _PEER, f"-- 1 {peers.transport} ", "-", "-")),
            _arrows((_CONSUMER, _DISPATCHER, "- 2 SUBMIT, the socket ", "-", ">")),
            _arrows((_DISPATCHER, _AGENT, "-- 3 READY, ACCEPT ", "-", ">")),
            _arrows(
                (_DISPATCHER, _AGENT, "     + the socket ", " ", " "),
                (_AGENT, _PEER, f"<- 4 {peers.handshake} ", "-", ">"),
            ),
            _arrows((_DISPATCHER, _AGENT, "<- 5 DONE, the session ", "-", "-")),
            _arrows((_CONSUMER, _DISPATCHER, "<- 6 RESULT, session ", "-", "-")),
            _arrows((_CONSUMER, _PEER, "<== 7 data, protected ", "=", ">")),
            "",
            f"   2 to 6  the handshake, as the consumer sees it        {outcome.handshake * 1000:8.1f} ms",
            f"   7       {DATA // 1024} KiB each way, compared by SHA-256        {outcome.transfer * 1000:8.1f} ms",
            f"   before  start of the dispatcher until it listens     {cast.dispatcher_start * 1000:9.1f} ms",
            f"           start of the agents until they serve          {cast.agent_start * 1000:9.1f} ms",
        )
    )


def _heads(*texts: str) -> str:
    line = ""
    for column, text in zip(_COLUMNS, texts, strict=True):
        line = line.ljust(column) + text + " "
    return line.rstrip()


def _arrows(*arrows: tuple[int, int, str, str, str]) -> str:
    """Draw one line of the picture: the lifelines, and arrows between them.

    An arrow: lifelines of start and end, text, filling character, tip.
    """
    line = [" "] * (_LIFELINES[-1] + 1)
    for column in _LIFELINES:
        line[column] = "|"
    for start, end, text, filling, tip in arrows:
        first, last = _LIFELINES[start] + 1, _LIFELINES[end]
        line[first:last] = text.ljust(last - first - 1, filling)[: last - first - 1] + tip
    return "".join(line)


def table(outcomes: Sequence[Outcome]) -> str:
    """Format a line for each scenario, with the reason below an unexpected outcome."""
    lines = [_LINE.format("", "we are", "what", "outcome", "ms", "data", "").rstrip(), "-" * WIDTH]
    for number, outcome in enumerate(outcomes, start=1):
        role = outcome.scenario.options.role.name.lower()
        milliseconds = f"{outcome.handshake * 1000:.1f}"
        data = f"{2 * DATA >> 20} MiB" if outcome.data_ok else "-"
        verdict = "WRONG" if outcome.problem else "ok"
        title = outcome.scenario.title
        lines.append(_LINE.format(number, role, title, _outcome(outcome), milliseconds, data, verdict))
        if outcome.problem:
            lines += textwrap.wrap(outcome.problem, WIDTH, initial_indent=" " * 12, subsequent_indent=" " * 12)
    return "\n".join(lines)


def _outcome(outcome: Outcome) -> str:
    if outcome.status:
        return errno_name(outcome.status)
    if "device" in outcome.tags:
        return f"PSP {outcome.tags['version']}, {outcome.tags['device']}"
    cipher = outcome.tags.get("cipher", "session").removeprefix("TLS_").partition("_SHA")[0]
    facts = (cipher, outcome.tags.get("group"), outcome.alpn, "kTLS" if outcome.in_kernel else None)
    return " ".join(fact for fact in facts if fact)


def _capabilities(process: ProcessFacts) -> str:
    number = process.capabilities.bit_count()
    return "1 capability" if number == 1 else f"{number or 'no'} capabilities"
