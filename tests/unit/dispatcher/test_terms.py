"""Reading of everything anew: all or nothing, whole, and never less than before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from hsframework.configuration.files import prints
from hsframework.configuration.settings import Configuration
from hsframework.configuration.toml import load_configuration
from hsframework.dispatcher.terms import InForce, Terms, Unsettled, opened, read_terms, with_lists
from hsframework.errors import ConfigurationError
from hsframework.testing.certificates import Authority, to_pem
from tests.support.running import short_folder

ROOT, OTHER = Authority("First Root"), Authority("Second Root")
IDENTITIES = [ROOT.issue(["server.example"]) for _ in range(2)]


def _pem(der: bytes) -> bytes:
    return to_pem(der, "X509 CRL")


class Files:
    """A configuration and its files, of which one or two whole states exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "hsframework.toml"
        self.states: dict[str, list[bytes]] = {
            "web.pem": [credential.certificate_pem for credential in IDENTITIES],
            "web.key": [credential.private_key_pem for credential in IDENTITIES],
            "ca.pem": [to_pem(ROOT.anchor), to_pem(ROOT.anchor) + to_pem(OTHER.anchor)],
            "lists.pem": [_pem(ROOT.crl()) + _pem(OTHER.crl()), _pem(ROOT.crl([7])) + _pem(OTHER.crl([8]))],
            "keys.psk": [b"one:" + b"01" * 32 + b"\n", b"one:" + b"02" * 32 + b"\ntwo:" + b"03" * 32 + b"\n"],
            "hsframework.toml": [_toml(""), _toml('alpn = ["h2"]\n')],
        }
        for name in self.states:
            self.write(name, 0)
        self.state = with_lists(InForce.at_start(self.load()))

    def load(self) -> Configuration:
        """Read the configuration."""
        return load_configuration(self.configuration)

    def write(self, name: str, state: int, length: int | None = None) -> None:
        """Write a file, or so many bytes of it."""
        path = self.folder / name
        path.write_bytes(self.states[name][state][:length])
        path.chmod(0o600)

    def read(self) -> Terms:
        """Read everything anew."""
        return read_terms(self.load, self.state, ())


def _toml(profile: str) -> bytes:
    return f"""
[identities.web]
certificate = "web.pem"
private-key = "web.key"
[psks.peers]
file = "keys.psk"
[trust.web]
bundle = ["ca.pem"]
crl = ["lists.pem"]
[profiles.web]
identities = ["web"]
psks = ["peers"]
trust = "web"
client-certificate = "require"
{profile}""".encode()


@pytest.fixture
def files() -> Iterator[Files]:
    with short_folder() as folder:
        yield Files(folder)


def contents(terms: Terms) -> dict[Any, Any]:
    """Return what was read, but for the system's trust."""
    return {part: value for part, value in terms.contents.items() if part[0] != "system"}


NAMES = ["web.pem", "web.key", "ca.pem", "lists.pem", "keys.psk", "hsframework.toml"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(name=st.sampled_from(NAMES[:4]), share=st.floats(0, 1))
@example("lists.pem", 0.5)
def test_a_file_that_is_cut(files: Files, name: str, share: float) -> None:
    """Wherever it ends, it is refused with its name, or it has all that the whole one has, or fewer authorities."""
    files.write(name, 0)
    whole = contents(files.read())
    length = int(share * len(files.states[name][0]))
    files.write(name, 0, length)
    try:
        found = contents(files.read())
    except ConfigurationError as error:
        assert name in str(error) or "trust.web" in str(error)
    else:
        assert found == whole
    finally:
        files.write(name, 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["whole", "cut", "gone", "empty", "folder", "unreadable", "noise"]),
        st.integers(0, 1),
        st.integers(0, 3000),
    ),
    min_size=1,
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(steps=STEPS)
def test_files_that_change_in_any_way(steps: list[tuple[str, str, int, int]]) -> None:
    """The terms in force are always a whole state: the pair belongs together, no list is lost, no demand weakened."""
    with short_folder() as folder:
        files = Files(folder)
        for name, how, state, length in steps:
            _disturb(files, name, how, state, length)
            try:
                terms = files.read()
            except (ConfigurationError, Unsettled):
                continue
            files.state = terms.state
            found = contents(terms)
            identity, trust = found["identities", "web"], found["trust", "web"]
            assert identity in [credential.identity for credential in IDENTITIES]
            assert len(set(trust.crls)) == 2
            assert ROOT.anchor in trust.anchors
            assert found["psks", "peers"]
            assert terms.state.configuration.profiles["web"].client_certificate == "require"
            assert terms.state.configuration.profiles["web"].trust == "web"


def _disturb(files: Files, name: str, how: str, state: int, length: int) -> None:
    path = files.folder / name
    if path.is_dir():
        path.rmdir()
    if how == "whole":
        files.write(name, state)
    elif how == "cut" and name not in ("hsframework.toml", "keys.psk"):
        files.write(name, state, length)
    elif how == "gone":
        path.unlink(missing_ok=True)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "folder":
        path.unlink(missing_ok=True)
        path.mkdir()
    elif how == "unreadable" and path.exists():
        path.chmod(0o644 if name == "web.key" else 0o600)
    elif how == "noise":
        path.write_bytes(os.urandom(length))


def test_what_was_read_goes_through_snapshots(files: Files) -> None:
    """Opened, they have the same configuration and credentials."""
    terms = files.read()
    state, vault = opened(terms.frozen())
    assert state == terms.state
    assert vault.contents() == terms.contents
    assert vault.files == terms.state.files


CHANGES: dict[str, Callable[[Files], object]] = {
    "a certificate": lambda files: files.write("web.pem", 0),
    "the configuration": lambda files: files.write("hsframework.toml", 1),
    "a list": lambda files: files.write("lists.pem", 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_changes_while_it_is_read(files: Files, what: str) -> None:
    """Terms that may be half of one state and half of the other are not taken."""

    def load() -> Configuration:
        found = files.load()
        os.utime(files.configuration.with_name("web.pem"))  # coarse clocks: a change is one in any case
        CHANGES[what](files)
        return found

    with pytest.raises(Unsettled):
        read_terms(load, files.state, ())


def test_a_file_that_is_being_written(files: Files) -> None:
    """As long as a process has it open for writing, however well it can be read: a list ends between two entries."""
    with files.folder.joinpath("lists.pem").open("ab"), pytest.raises(Unsettled):
        files.read()
    files.read()


def test_an_empty_configuration(files: Files) -> None:
    """As a file is between its truncation and its first byte: no reason to go on with defaults."""
    files.configuration.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="the file is empty"):
        files.read()


def test_a_list_is_lost(files: Files) -> None:
    """A bundle that was cut between two lists is refused, by the issuer's name; another table may do without it."""
    files.folder.joinpath("lists.pem").write_bytes(_pem(ROOT.crl([7])))
    with pytest.raises(ConfigurationError, match=r"trust\.web: the revocation list of CN=Second Root, which is"):
        files.read()
    files.folder.joinpath("new.pem").write_bytes(_pem(ROOT.crl([7])))
    files.configuration.write_bytes(_toml("").replace(b"lists.pem", b"new.pem"))
    assert len(contents(files.read())["trust", "web"].crls) == 1


def test_an_older_list(files: Files) -> None:
    """A list that goes back in time is refused, with both dates; the same one again is not."""
    newest = _list_begin(files) + timedelta(days=2)
    fresh = OTHER.crl([8], this_update=newest, next_update=newest + timedelta(days=9))
    files.folder.joinpath("lists.pem").write_bytes(_pem(ROOT.crl()) + _pem(fresh))
    files.state = files.read().state
    files.state = files.read().state
    files.write("lists.pem", 0)
    with pytest.raises(ConfigurationError, match=r"the revocation list of CN=Second Root is of .* is in force"):
        files.read()


def _list_begin(files: Files) -> Any:
    assert files.state.lists is not None
    return max(date for date, _ in files.state.lists["web"].values())


def test_the_configuration_is_gone(files: Files) -> None:
    """The defaults do not take the place of a file that was there."""
    with pytest.raises(ConfigurationError, match="the file is gone"):
        read_terms(Configuration, files.state, ())


def test_keys_that_wait(files: Files) -> None:
    """Their old values stay in force beside the new ones of others."""
    text = b'required-groups = ["tlshd"]\n' + _toml('alpn = ["h2"]\n')
    files.configuration.write_bytes(text + b"[limits]\nper-source = 9\n[timeouts]\nclient = 5\nwatchdog = 7\n")
    found = files.read().state
    assert found.waiting == ("limits.per-source", "required-groups", "timeouts.watchdog")
    assert found.configuration.profiles["web"].alpn == ("h2",)
    assert found.configuration.timeouts.client == 5
    before = files.state.configuration
    assert (found.configuration.limits, found.configuration.timeouts.watchdog) == (
        before.limits,
        before.timeouts.watchdog,
    )


TOUCHES: dict[str, Callable[[Path], object]] = {
    "an older date": lambda folder: os.utime(folder / "one.pem", ns=(1, 1)),
    "another file of the same date": lambda folder: _replace(folder / "one.pem"),
    "a further file": lambda folder: (folder / "three.pem").write_text(""),
    "one file less": lambda folder: (folder / "two.pem").unlink(),
    "another name": lambda folder: (folder / "two.pem").rename(folder / "four.pem"),
}


@pytest.mark.parametrize("what", TOUCHES)
def test_a_change_in_a_folder_is_seen(files: Files, what: str) -> None:
    """However its dates and the number of its files are."""
    folder = files.folder / "lists"
    folder.mkdir()
    for name in ("one.pem", "two.pem"):
        (folder / name).write_bytes(_pem(ROOT.crl()))
    files.configuration.write_bytes(_toml("").replace(b"lists.pem", b"lists"))
    look = partial(prints, files.load())
    before = look()
    assert look() == before
    TOUCHES[what](folder)
    assert look() != before


def _replace(path: Path) -> None:
    status = path.stat()
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.rename(path)
