"""A booted Debian: commands run in it, it reboots, and nothing of it is left at the end.

The test kernel (:mod:`tests.kernel.uml`) starts with a release's disk image (``make guests``), a copy-on-write file
over it, and systemd as process 1.  ``scripts/guests/agent.py`` in the guest runs commands, side by side if several
threads ask.  The guest sees one directory of the host, :attr:`Guest.shared`, as /run/host, and no network.

Each wait has a limit.  Past it the guest is ended, and :class:`GuestFailed` has the end of its console and journal.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernel import mconsole, uml

GUESTS = uml.CHECKOUT / "build" / "guests"
KEPT = uml.CHECKOUT / "build" / "system-logs"
"""Consoles and journals of guests in which something failed."""
MEMORY = "2G"
BOOT = 180.0
"""Seconds until a guest that has not booted counts as hung."""
COMMAND = 120.0
"""Seconds until a command in a guest counts as hung."""
TAIL = 80
"""Lines of console and journal in an error."""


class GuestFailed(Exception):
    """A guest that hung or ended.  The text has the end of its console and journal."""


class CommandFailed(AssertionError):
    """A command in a guest with another exit code than 0.  The text has its output."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command's exit code and output.  The code is None if the command was killed at the end of its time."""

    code: int | None
    output: str


def unavailable(suite: str) -> str | None:
    """Return the reason why there is no guest of this release here, or None."""
    reason = uml.unavailable()
    if reason is None and not (GUESTS / suite / "root.img").exists():
        reason = f"there is no image of Debian {suite}; `make guests` makes it (about two minutes, once a machine)"
    return reason


class Guest:
    """One guest.  A context manager: at the end the guest is gone, whatever it was doing."""

    def __init__(self, suite: str, *, name: str = "", memory: str = MEMORY) -> None:
        reason = unavailable(suite)
        if reason:
            raise uml.Unavailable(reason)
        self.suite = suite
        self.name = name or suite
        self._holder = tempfile.TemporaryDirectory(prefix=f"guest-{self.name}-")
        self._folder = Path(self._holder.name)
        self.shared = self._folder / "shared"
        self.shared.mkdir()
        self.boots: list[str] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._booted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._ended = False
        self._guard = threading.Lock()
        self._start(memory)
        try:
            self._expect_boot()
        except GuestFailed:
            self.close()
            raise

    def _start(self, memory: str) -> None:
        requests, self._requests = os.pipe()
        answers, writing = os.pipe()
        image = (GUESTS / self.suite / "root.img").resolve()
        # Files of their own: what the kernel prints and the journal survive a guest that hangs.
        console = open(self._folder / "console", "wb")
        journal = open(self._folder / "journal", "wb")
        serial = [f"ssl0=fd:{requests},fd:{writing}", f"ssl1=null,fd:{journal.fileno()}"]
        lines = ["con=null", "con0=null,fd:1", "ssl=null", *serial, "loglevel=5", "systemd.show_status=0"]
        disk = [f"ubd0={self._folder / 'disk'},{image}", "root=/dev/ubda", "rw"]
        identity = [f"uml_dir={self._folder}/", "umid=kernel", f"hostfs={self.shared}"]
        size = uml.size_in_bytes(memory)
        self._process = subprocess.Popen(
            [str(uml.BUILT / "linux"), f"mem={memory}", *disk, *lines, *identity],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(uml.scratch_memory(self._folder, size))},
            pass_fds=[requests, writing, journal.fileno()],
            preexec_fn=uml.prepare,
            start_new_session=True,
        )
        os.close(requests)
        os.close(writing)
        console.close()
        journal.close()
        threading.Thread(target=self._receive, args=(answers,), daemon=True).start()

    def _receive(self, answers: int) -> None:
        """Hand answers to whoever asked, until the guest has ended."""
        with open(answers, "rb") as stream:
            for line in stream:
                try:
                    answer = json.loads(line)
                except ValueError:  # a line that a reboot cut off
                    continue
                if "boot" in answer:
                    # What the boot before was asked for is no longer answered.
                    self._give_up({"code": None, "output": "ended by a reboot"})
                    self._booted.put(answer["boot"])
                elif answer["id"] in self._answers:
                    self._answers.pop(answer["id"]).put(answer)
        self._ended = True
        self._booted.put(None)
        self._give_up(None)

    def _give_up(self, answer: dict[str, Any] | None) -> None:
        """Give this answer to all that wait for one."""
        while self._answers:
            self._answers.popitem()[1].put(answer)

    def _expect_boot(self) -> None:
        try:
            boot = self._booted.get(timeout=BOOT)
        except queue.Empty:
            raise self._failure(f"did not boot in {BOOT:g} s") from None
        if boot is None:
            raise self._failure("ended instead of booting")
        self.boots.append(boot)

    def ask(self, command: list[str], timeout: float = COMMAND) -> Done:
        """Run a program, and return its exit code and output.  Raises GuestFailed if the guest does not answer."""
        waiting = self._request(command, timeout)
        try:
            answer = None if self._ended else waiting.get(timeout=timeout + 30)
        except queue.Empty:
            raise self._failure(f"does not answer; it was asked to run {command}") from None
        if answer is None:
            raise self._failure(f"ended; it was asked to run {command}")
        return Done(answer["code"], answer["output"])

    def _request(self, command: list[str], timeout: float) -> queue.SimpleQueue[dict[str, Any] | None]:
        number = next(self._numbers)
        waiting = self._answers[number] = queue.SimpleQueue()
        request = json.dumps({"id": number, "command": command, "timeout": timeout}).encode() + b"\n"
        assert len(request) < 4096, "the serial line takes no more; put a file into Guest.shared"
        with self._guard:
            os.write(self._requests, request)
        return waiting

    def run(self, script: str, timeout: float = COMMAND) -> str:
        """Run a shell script, and return its output.  Raises CommandFailed, GuestFailed."""
        done = self.ask(["bash", "-c", script], timeout)
        if done.code != 0:
            ended = f"was killed after {timeout:g} s" if done.code is None else f"ended with {done.code}"
            raise CommandFailed(f"in {self.name}: {script}\n{ended}:\n{done.output}")
        return done.output

    def put(self, source: Path, name: str = "") -> str:
        """Copy a file or folder of the host into the guest's view, and return its path there."""
        target = self.shared / (name or source.name)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        return f"/run/host/{target.relative_to(self.shared)}"

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        draft = self.shared / "draft"
        draft.write_text(text)
        self.run(f"install -D -m {mode:o} /run/host/draft {path}")

    def reboot(self) -> None:
        """Restart the guest, and return when the agent is back.  Raises GuestFailed."""
        self._request(["systemctl", "--no-block", "reboot"], COMMAND)  # the answer may come too late
        self._expect_boot()

    def read(self, name: str) -> str:
        """Return the whole ``console`` or ``journal``, of all boots."""
        return (self._folder / name).read_text(errors="replace")

    def keep(self, reason: str) -> Path:
        """Copy console and journal to build/system-logs, and return that folder."""
        folder = KEPT / self.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "reason").write_text(reason + "\n")
        for name in ("console", "journal"):
            shutil.copy(self._folder / name, folder / name)
        return folder

    def _failure(self, text: str) -> GuestFailed:
        """End the guest, keep its logs, and return the error."""
        ends = ["\n".join(self.read(name).splitlines()[-TAIL:]) for name in ("console", "journal")]
        if self._process.poll() is None:
            mconsole.ask(self._folder / "kernel" / "mconsole", "sysrq t")
        self._kill()
        headline = f"the guest {self.name} {text}"
        folder = self.keep(headline)
        return GuestFailed(f"{headline}\n--- console ---\n{ends[0]}\n--- journal ---\n{ends[1]}\n--- all: {folder}\n")

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the guest."""
        self._kill()
        os.close(self._requests)
        self._holder.cleanup()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
