"""Benchmark of handshakes for kernel consumers, by hsframework and by tlshd in turn, on the test kernel.

    make bench-kernel        or: python -m benchmarks.kernel [--rounds 3] [--kills 5] [--json FILE]

* *requests*: 400 at 16 and at 64 at a time; both ends of 200 TCP connections are submitted to the kernel's handshakes
  API (an anonymous client, as NFS with xprtsec=tls, and a server with an ECDSA certificate), and the client then sends
  a word to the server through kTLS.  A submission that the kernel refuses, because too many wait to be accepted, is
  repeated after 10 ms.  The number that may wait depends on memory; hence two boots, with room for 5 and for 20.
* *stalled*: 200 requests whose peer sends nothing, or only its ClientHello.
* *kills*: kill -9 of our worker, and of our dispatcher, with 10 requests in flight.

It needs the test kernel (`make kernel`).  The exit status is 1 if any request was lost or failed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.kernel import uml

BOOTS = {"2G": 5, "8G": 20}
"""Number of requests that may wait in the kernel, by memory of the boot."""

TIMEOUT = 900.0
NAMES = ("hsframework", "tlshd")
CAUTION = (
    "User-Mode Linux, one processor.  fork and page faults cost far more there than on hardware, so that a comparison\n"
    "with a program that forks for each request (tlshd) flatters the one that does not."
)


def measure(memory: str, rounds: int, kills: int) -> dict[str, Any]:
    """Boot the test kernel, measure in it, and return the figures.  Raises KernelFailed."""
    command = [sys.executable, "-m", "benchmarks.kernel.inside", "/run/exchange/figures", str(rounds), str(kills)]
    with uml.Boot(command, memory=memory) as boot:
        outcome = boot.wait(TIMEOUT)
        if outcome.exit_code:
            raise uml.KernelFailed(boot.report(f"the benchmark ended with {outcome.exit_code}"))
        figures: dict[str, Any] = json.loads(boot.read("figures"))
        return figures


def report(room: int, figures: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the tables of one boot; ``room``: requests that may wait in the kernel."""
    yield f"400 requests, {room} may wait in the kernel        served  lost  refused  refusals  handshakes/s"
    for at_once in ("16", "64"):
        for name in NAMES:
            rounds = [turn[at_once] for turn in figures[name]["rates"]]
            served, lost = min(turn["served"] for turn in rounds), max(turn["lost"] for turn in rounds)
            refused, refusals, rate = (_median(turn[key] for turn in rounds) for key in ("refused", "refusals", "rate"))
            label = f"  {at_once} at a time, {name}"
            yield f"{label:46} {served:7.0f} {lost:5.0f} {refused:8.0f} {refusals:9.0f} {rate:13.0f}"
    if figures["hsframework"]["stalled"]:
        yield from _rest(figures)


def _rest(figures: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "200 stalled peers                                  KiB each  processes each"
    for kind in ("nothing came", "answered"):
        for name in NAMES:
            row = figures[name]["stalled"][kind]
            yield f"{f'  {kind}, {name}':48} {row['kib']:10.0f} {row['processes']:15.2f}"
    yield ""
    yield "kill -9 with 10 requests in flight, ms     lost   consumers have heard       next handshake is served"
    for victim, rows in figures["hsframework"]["kills"].items():
        lost = sum(row["lost"] for row in rows)
        heard, serving = (_spread([row[key] for row in rows]) for key in ("heard", "serving"))
        yield f"{f'  the {victim}':42} {lost:5.0f}   {heard:26} {serving}"


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def complete(figures: dict[str, Any]) -> bool:
    """Return True if everything was served and nothing lost.

    tlshd's requests count too, because a failure of them shows a fault of the benchmark.
    """
    ours = figures["hsframework"]
    rates = [row for name in NAMES for turn in figures[name]["rates"] for row in turn.values()]
    return (
        all(row["served"] == row["requests"] and not row["lost"] for row in rates)
        and not any(row["ended early"] for row in ours["stalled"].values())
        and not any(row["lost"] for rows in ours["kills"].values() for row in rows)
    )


def main() -> int:
    """Measure, print, and write JSON if asked to.  Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="in which ours and tlshd take turns; medians are shown")
    parser.add_argument("--kills", type=int, default=5, help="of the agent, and as many of the dispatcher")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(f"{CAUTION}\nLoad of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n")
    found = {}
    try:
        for memory, room in BOOTS.items():
            # Stalled handshakes and kills do not depend on the room, and are measured once.
            figures = found[memory] = measure(memory, arguments.rounds, arguments.kills if room == 20 else 0)
            print("\n".join(report(room, figures)), end="\n\n", flush=True)
    except (uml.Unavailable, uml.KernelFailed) as error:
        print(error, file=sys.stderr)
        return 125
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    if all(map(complete, found.values())):
        print("Nothing was lost.")
        return 0
    print("Requests were LOST or failed: see the figures (--json).", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
