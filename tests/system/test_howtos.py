"""Every command in the how-tos for administrators, executed as it stands in a guest that pip has installed it in."""

from __future__ import annotations

import re

import pytest

from tests.system import administrator as admin
from tests.system.guest import Guest
from tests.system.pages import Command, Terminal, examples, terminals

ANSWERS = {"sudo hsframework doctor": (0, 1)}
"""Statuses of commands that may end with another one than 0: doctor's is 1 where something is missing."""


def _execute(guest: Guest, page: str) -> list[tuple[Command, str]]:
    """Execute a page, and return each command with its output.  Raises AssertionError for the first that fails."""
    found = []
    for commands in terminals(page):
        terminal = Terminal(guest)
        try:
            for command in commands:
                done = terminal.type(command)
                plain = command.text.partition("#")[0].strip()
                assert done.code in ANSWERS.get(plain, (0,)), f"{page}.md: {command.text}\n{done.output}"
                found.append((command, done.output))
        finally:
            ended = terminal.close()
        for command, done in ended:
            assert done.code == 0, f"{page}.md: {command.text}, ended by Ctrl-C\n{done.output}"
    return found


def test_the_pages_have_commands() -> None:
    """The extraction finds the commands that a reader sees, so the tests below are about something."""
    assert {page: len(terminals(page)) > 0 for page in ("systemd", "tlshd", "configure")} == dict.fromkeys(
        ("systemd", "tlshd", "configure"), True
    )
    assert any(command.serves for commands in terminals("configure") for command in commands)


def test_systemd(howtos: Guest) -> None:
    """systemd.md: after its commands the service was installed, started, restarted, and stopped; it starts again."""
    admin.configure(howtos)
    _execute(howtos, "systemd")
    assert admin.state(howtos) in ("active", "inactive")
    howtos.run("systemctl restart hsframework")
    assert admin.state(howtos) == "active"


def test_rotate(howtos: Guest) -> None:
    """rotate.md: its commands replace a certificate while the service runs; a wrong one fails the reload alone."""
    admin.configure(howtos)
    howtos.run("hsframework units --install && systemctl restart hsframework")
    main = admin.show(howtos, "MainPID")
    admin.credentials(howtos, "/root/new", ("host",), ())
    for command, output in _execute(howtos, "rotate"):
        assert all(line in output for line in command.shown), output
    admin.export(howtos)
    assert admin.program(howtos, "mounts", 1, "mtls")["failed"] == []
    howtos.run("systemctl reload hsframework; echo nonsense >/etc/hsframework/host.pem")
    assert howtos.ask(["systemctl", "reload", "hsframework"]).code != 0
    assert "identities.host" in howtos.run("journalctl --unit hsframework --output cat --lines 20")
    assert admin.program(howtos, "mounts", 1, "mtls")["failed"] == []
    assert (admin.state(howtos), admin.show(howtos, "MainPID")) == ("active", main)
    admin.credentials(howtos, admin.ETC, ("host",), ())
    howtos.run("systemctl reload hsframework")


def test_configure(howtos: Guest) -> None:
    """configure.md: with the page's configuration for NFS, its service and its mount."""
    admin.configure(howtos)
    (nfs,) = [text for text in examples("configure") if "[profiles.kernel-server]" in text]
    howtos.write(f"{admin.ETC}/hsframework.toml", nfs)
    howtos.run("systemctl stop hsframework")
    howtos.write("/etc/exports", "/export *(rw,xprtsec=mtls)\n")
    howtos.run("mkdir -p /export; systemctl start nfs-server; exportfs -ra; ip netns add blue")
    try:
        _execute_with_mount(howtos)
    finally:
        howtos.run("umount --all --types nfs4; ip netns delete blue; systemctl start hsframework")


def _execute_with_mount(guest: Guest) -> None:
    for commands in terminals("configure"):
        terminal = Terminal(guest)
        try:
            for command in commands:
                done = terminal.type(command)
                assert done.code in ANSWERS.get(command.text.partition("#")[0].strip(), (0,)), done.output
                if command.text.startswith("sudo mount"):
                    assert "xprtsec=mtls" in guest.run("findmnt --noheadings --output OPTIONS /mnt; umount /mnt")
        finally:
            ended = terminal.close()
        assert [done.code for _, done in ended] == [0] * len(ended)


@pytest.mark.parametrize("number", range(len(examples("configure"))))
def test_an_example_of_configure_is_accepted(howtos: Guest, number: int) -> None:
    """configure.md: each configuration is accepted, but for plugins that are not installed here."""
    text = examples("configure")[number]
    admin.credentials(howtos, "/root/example", ("web", "host"), ("partners", "nfs"))
    howtos.write("/root/example/file.toml", text)
    howtos.run("groupadd --system --force ssl-cert")
    done = howtos.ask(["hsframework", "config", "check", "--config", "/root/example/file.toml"])
    complaints = [line for line in done.output.splitlines() if line.startswith("MISSING")]
    assert [line for line in complaints if not re.search("is not installed|no plugin '.*' is installed", line)] == []
    assert done.code == (1 if complaints else 0), done.output


def test_tlshd(howtos: Guest) -> None:
    """tlshd.md: tlshd serves first; its commands replace it, with its own configuration; the output is as shown."""
    howtos.run("systemctl stop hsframework; mkdir -p /etc/hsframework; rm -f /etc/hsframework/hsframework.toml")
    admin.credentials(howtos, "/etc/tlshd.d", ("host",), ("nfs",))
    howtos.write("/etc/tlshd.conf", admin.tlshd_configuration("/etc/tlshd.d"))
    howtos.run("systemctl enable --now tlshd")
    for command, output in _execute(howtos, "tlshd"):
        if "doctor" in command.text and any("members" in line for line in command.shown):
            assert "members of the kernel's groups" in output
    howtos.run("systemctl start hsframework")
    admin.export(howtos)
    assert admin.program(howtos, "mounts", 1, "mtls")["failed"] == []
