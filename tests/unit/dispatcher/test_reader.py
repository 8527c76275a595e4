"""The reader: what it sends when it is told to read, when files change, and when they are wrong."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.configuration.settings import Configuration
from hsframework.configuration.toml import load_configuration
from hsframework.dispatcher import reader as module
from hsframework.dispatcher.reader import Reader
from hsframework.dispatcher.terms import InForce, Terms, opened
from hsframework.errors import ConfigurationError
from hsframework.local.control import FROM_READER, TO_READER, NotRead, ReadAgain, ReaderAlive, TermsRead
from hsframework.local.control_socket import ControlSocket
from tests.support.running import WAIT


class House:
    """A reader in a thread, and the files that it looks at."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "hsframework.toml"
        self.write("")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = ControlSocket(ours, TO_READER, FROM_READER, takes_fds=True)
        self._theirs = ControlSocket(theirs, FROM_READER, TO_READER)
        reader = Reader(self._theirs, self.load, InForce.at_start(self.load()), ())
        self._thread = threading.Thread(target=reader.run)
        self._thread.start()

    def load(self) -> Configuration:
        """Read the configuration."""
        return load_configuration(self.file)

    def write(self, profiles: str) -> None:
        """Replace the configuration at once."""
        new = self.file.with_name("new")
        new.write_text(f"# a comment\n{profiles}")
        new.rename(self.file)

    def hears(self) -> NotRead | tuple[TermsRead, InForce]:
        """Wait for what the reader sends next, but for its signs of life."""
        snapshots: list[int] = []
        while True:
            assert select.select([self.link], [], [], WAIT)[0]
            received = self.link.receive_with_fd()
            assert received is not None
            message, fd = received
            if isinstance(message, NotRead):
                return message
            if isinstance(message, TermsRead):
                assert fd is not None
                snapshots.append(fd)
                if len(snapshots) == 2:
                    return message, opened((snapshots[0], snapshots[1]))[0]
            else:
                assert isinstance(message, ReaderAlive)

    def profiles(self) -> set[str]:
        """Wait for terms, and return the profiles in them."""
        heard = self.hears()
        assert not isinstance(heard, NotRead), heard
        return set(heard[1].configuration.profiles)

    def close(self) -> None:
        self.link.close()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        self._theirs.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    monkeypatch.setattr(module, "SETTLED", 0.01)
    made = House(tmp_path)
    yield made
    made.close()


def test_an_order(house: House) -> None:
    """Everything is sent, also if nothing has changed, and it names the order."""
    house.link.send(ReadAgain(7))
    heard = house.hears()
    assert not isinstance(heard, NotRead)
    assert heard[0].order == 7


def test_a_change(house: House) -> None:
    """It is read by itself, and so is the next one."""
    house.write("[profiles.one]\n")
    assert house.profiles() == {"one"}
    house.write("[profiles.two]\n")
    assert house.profiles() == {"two"}


def test_a_fault_is_said_once(house: House) -> None:
    """For one state of the files; an order is answered in any case, and a mended file is read by itself."""
    house.write("nonsense = 1\n")
    heard = house.hears()
    assert isinstance(heard, NotRead)
    assert ("nonsense" in heard.message, heard.order) == (True, 0)
    house.link.send(ReadAgain(3))
    heard = house.hears()
    assert isinstance(heard, NotRead), "nothing came between"
    assert heard.order == 3
    house.write("[profiles.one]\n")
    assert house.profiles() == {"one"}


def test_a_file_that_comes_late(house: House) -> None:
    """A configuration names a file that is not there yet: with the file everything is taken, by itself."""
    keys = house.file.with_name("late.psk")
    house.write('[psks.late]\nfile = "late.psk"\n[profiles.late]\npsks = ["late"]\n')
    heard = house.hears()
    assert isinstance(heard, NotRead)
    assert str(keys) in heard.message
    new = keys.with_name("new.psk")
    new.write_text("one:" + "01" * 32 + "\n")
    new.chmod(0o600)
    os.rename(new, keys)
    assert house.profiles() == {"late"}


def test_a_watch_that_is_not_wanted(house: House) -> None:
    """``watch-files = false``: the next change is read with an order alone."""
    house.write("watch-files = false\n")
    assert house.profiles() == set()
    house.write("watch-files = false\n[profiles.one]\n")
    house.link.send(ReadAgain(1))
    heard = house.hears()
    assert not isinstance(heard, NotRead)
    assert (set(heard[1].configuration.profiles), heard[0].order) == ({"one"}, 1), "it came by the order"


def test_a_fault_of_the_machine(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for a snapshot: the order has an end, and the next one succeeds."""

    def full(name: str, value: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hsframework.dispatcher.terms.freeze", full)
        house.link.send(ReadAgain(1))
        heard = house.hears()
        assert isinstance(heard, NotRead)
        assert "No space left" in heard.message
    house.link.send(ReadAgain(2))
    assert house.profiles() == set()


def test_a_value_that_no_snapshot_has() -> None:
    """The reason names it; it is no end of the reader's."""
    with pytest.raises(ConfigurationError, match="cannot be handed on"):
        Terms(InForce(Configuration(plugins={"x": {"y": threading.Lock()}})), {}).frozen()
