"""Commands in pages of the documentation, as they stand, and their execution in a guest.

A command is a line that begins with ``$`` in a block of the kind ``console``, or an inline piece of code that begins
with ``sudo``.  A block is one terminal: a service that it has started in the foreground or with ``&`` is ended as by
Ctrl-C at the end of the block.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from tests.kernel.uml import CHECKOUT
from tests.system.guest import Done, Guest

HOWTO = CHECKOUT / "docs" / "howto"
_PART = re.compile(r"(?ms)^```(?P<kind>\w*)\n(?P<block>.*?)^```$|`(?P<inline>sudo [^`]+)`")
_SERVICE = re.compile(r"\bhsframework run\b")
_SERVING = "pgrep --parent $(pgrep --session $(cat /run/terminal) --exact sudo)"
"""The service that sudo has started in the terminal."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and the lines of output that the page shows below it."""

    text: str
    shown: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        """True if it runs until it is ended."""
        return bool(_SERVICE.search(self.text))


def _block(text: str) -> list[Command]:
    commands: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:]))
        elif commands and line.strip():
            commands[-1] = Command(commands[-1].text, (*commands[-1].shown, line))
    return commands


def terminals(page: str) -> list[list[Command]]:
    """Return the commands of a page, each block of them by itself."""
    found = []
    for part in _PART.finditer((HOWTO / f"{page}.md").read_text()):
        if part["kind"] == "console":
            found.append(_block(part["block"]))
        elif part["inline"]:
            found.append([Command(" ".join(part["inline"].split()))])
    return found


def examples(page: str) -> list[str]:
    """Return the configurations (TOML) in a page."""
    return [part["block"] for part in _PART.finditer((HOWTO / f"{page}.md").read_text()) if part["kind"] == "toml"]


class Terminal:
    """A shell in a guest that commands of one block are typed into."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._serving: list[tuple[Command, threading.Thread, list[Done]]] = []

    def type(self, command: Command) -> Done:
        """Execute a command.  One that serves is only started: it returns when it is a member of the kernel's group."""
        if not command.serves:
            return self._guest.ask(["bash", "-c", command.text])
        done: list[Done] = []
        # Each command that is asked for has a session of its own: here, the terminal's.
        self._guest.run("rm -f /run/ended")
        text = f"echo $$ >/run/terminal; {command.text.removesuffix('&')}; code=$?; >/run/ended; exit $code"
        thread = threading.Thread(target=lambda: done.append(self._guest.ask(["bash", "-c", text], 300)))
        thread.start()
        self._serving.append((command, thread, done))
        joined = "awk '$2 == 16 && $4 != \"00000000\"' /proc/net/netlink | grep -q ."
        self._guest.run(f"until {joined}; do test ! -e /run/ended || exit 3; done")
        return Done(0, "")

    def close(self) -> list[tuple[Command, Done]]:
        """End what serves, and return how it ended."""
        for _, thread, _ in self._serving:
            self._guest.run(f"kill -INT $({_SERVING})")
            thread.join()
        return [(command, done[0]) for command, _, done in self._serving]
