"""Keys of the kernel's: named by serial, looked up by name, and seen by the dispatcher alone."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from hsframework.agent.privileges import agent_user, drop_privileges, join_own_session_keyring
from hsframework.dispatcher.keys.keyring import KernelKeys
from tests.kernel.consumers import known_host, nfs_mount, nfs_server, nvme_connection, nvme_key, nvme_target, until
from tests.kernel.house import ROOT, End, House, house
from tests.kernel.machine import (
    KEY_SPEC_PROCESS_KEYRING,
    KEY_SPEC_USER_KEYRING,
    NOBODY,
    add_key,
    debian,
    describe_key,
    in_a_child,
    load,
    members,
    open_key,
    read_key,
    unlink_key,
)
from tests.kernel.scripted import SUBSYSTEM, consumers

SERVER, CLIENT = ROOT.issue(["nfs.test"]), ROOT.issue(["client.test"])


@contextlib.contextmanager
def keyring(name: str) -> Iterator[int]:
    """Make a keyring of root's."""
    serial = debian("keyctl", "newring", name, "@u").strip()
    try:
        yield int(serial)
    finally:
        debian("keyctl", "unlink", serial, "@u")


def process_keyrings() -> list[str]:
    """Return the number of keys in each process keyring that /proc/keys lists."""
    table = Path("/proc/keys").read_text().splitlines()
    found = sorted(line.split()[-1] for line in table if " _pid:" in line)
    assert found
    return found


def shown_keys() -> str:
    return Path("/proc/keys").read_text()


@pytest.fixture(scope="module")
def service() -> Iterator[House]:
    """With a certificate for the server, and none for the client."""
    load("nvme-tcp")
    known_host("nfs.test", "127.0.0.1")
    with house(server=End(SERVER), client=End()) as made:
        yield made


def test_whole_names() -> None:
    """A key is found by its whole description: the kernel's own search for the type psk takes any beginning."""

    def look() -> None:
        keys = KernelKeys(["whole-names"])
        assert keys.find_psk(b"NVMe0R01 host") is None
        assert keys.find_psk(b"") is None
        found = keys.find_psk(b"NVMe0R02 host subsystem")
        assert found is not None
        psk, serial = found
        assert (serial, psk.identity, psk.hash) == (second, b"NVMe0R02 host subsystem", "sha384")
        assert psk.key.reveal() == b"2" * 48

    load("nvme-tcp")
    with keyring("whole-names") as ring:
        add_key("psk", "NVMe0R01 host subsystem", b"1" * 32, ring)
        second = add_key("psk", "NVMe0R02 host subsystem", b"2" * 48, ring)
        add_key("psk", "NVMe0R02 host subsystem and more", b"3" * 48, ring)
        in_a_child(look)


def test_other_types_are_no_pre_shared_keys() -> None:
    """A certificate in a keyring is public: a peer that names it by its description gets nothing for it."""

    def look() -> None:
        keys = KernelKeys(["types"])
        for name in (b"a certificate", b"within"):
            assert keys.find_psk(name) is None
            assert keys.find_psk(name, ring) is None
        assert keys.find_psk(b"NVMe0R01 a key") is not None

    load("nvme-tcp")
    with keyring("types") as ring:
        add_key("user", "a certificate", CLIENT.certificate, ring)
        add_key("keyring", "within", b"", ring)
        add_key("psk", "NVMe0R01 a key", b"1" * 32, ring)
        in_a_child(look)


def test_a_keyring_of_another_user() -> None:
    """Of the same name, older and open to everybody: it is not taken for the one that is configured."""

    def pretend() -> None:
        ring = add_key("keyring", "names", b"", KEY_SPEC_USER_KEYRING)
        open_key(add_key("psk", "theirs", b"1" * 32, ring))
        open_key(ring)

    def end() -> None:
        (ring,) = (serial for serial in members(KEY_SPEC_USER_KEYRING) if describe_key(serial)[-1] == "names")
        unlink_key(ring, KEY_SPEC_USER_KEYRING)

    def look(*, ours: bool) -> None:
        keys = KernelKeys(["names"])
        assert keys.find_psk(b"theirs") is None
        assert (keys.find_psk(b"ours") is not None) == ours

    load("nvme-tcp")
    in_a_child(pretend, NOBODY)
    assert " names: 1" in shown_keys()
    in_a_child(partial(look, ours=False))
    with keyring("names") as ring:
        add_key("psk", "ours", b"2" * 32, ring)
        in_a_child(partial(look, ours=True))
    in_a_child(end, NOBODY)


def test_a_keyring_that_is_found_while_a_request_holds_it() -> None:
    """Stays linked when the request lets go of it: from then on it is a configured one."""

    def serve() -> None:
        keys = KernelKeys(["late"])
        ring = add_key("keyring", "late", b"", KEY_SPEC_PROCESS_KEYRING)
        add_key("psk", "NVMe0R01 late", b"1" * 32, ring)
        keys.hold(ring)
        assert keys.find_psk(b"NVMe0R01 late") is not None
        keys.forget(ring)
        assert describe_key(ring)[0] == "keyring"
        assert keys.find_psk(b"NVMe0R01 late") is not None

    load("nvme-tcp")
    in_a_child(serve)


def test_an_agent_cannot_read_a_key_that_was_used(service: House) -> None:
    """After a handshake with the key: a process with what an agent has does not see it, nor its keyring."""
    nvme_key(SUBSYSTEM, 1)
    (serial,) = map(int, debian("keyctl", "rlist", "%:.nvme").split())
    user = agent_user(None, "tls13")
    assert user is not None

    def as_an_agent() -> None:
        join_own_session_keyring()
        drop_privileges(user)
        for call in (read_key, describe_key):
            with pytest.raises(PermissionError):
                call(serial)
        assert "NVMe" not in shown_keys()
        assert ".nvme" not in shown_keys()

    with nvme_target(SUBSYSTEM, "127.0.0.1"), nvme_connection(SUBSYSTEM, "127.0.0.1"):
        status = Path(f"/proc/{service.workers()[0]}/status").read_text().splitlines()
        assert f"Uid:\t{user.uid}\t{user.uid}\t{user.uid}\t{user.uid}" in status
        in_a_child(as_an_agent)


def test_the_keyring_of_a_request_is_unlinked(service: House) -> None:
    """A key in the host's own keyring is read, and by the ClientHello the dispatcher's process keyring is as before."""
    nvme_key(SUBSYSTEM, 1)
    (shared,) = map(int, debian("keyctl", "rlist", "%:.nvme").split())
    before = process_keyrings()
    with keyring("host") as ring, consumers() as hosts:
        own = add_key("psk", describe_key(shared)[-1], os.urandom(32), ring)
        consumer = hosts.start(f"keyring={ring}", f"tls_key={own}")
        assert consumer.peer.recv(1) == b"\x16"
        assert process_keyrings() == before
        consumer.peer.close()
        assert consumer.status() == errno.ETIMEDOUT


def test_certificates_by_serial(service: House) -> None:
    """mtls with certificate and private key from keys in .nfs; the peer's certificate is no longer a key afterwards."""
    nfs = int(debian("keyctl", "id", "%:.nfs"))
    form = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate = add_key("user", "client certificate", CLIENT.certificate, nfs)
    private_key = add_key("user", "client key", CLIENT.key.private_bytes(*form), nfs)
    before = process_keyrings()
    options = f"xprtsec=mtls,cert_serial={certificate},privkey_serial={private_key}"
    with nfs_server("xprtsec=mtls"), nfs_mount("nfs.test", options) as mounted:
        (mounted / "file").write_text("by serial")
        assert process_keyrings() == before
        until(lambda: "hsframework peer" not in shown_keys(), "the key of the peer's certificate is gone")
        service.log.wait("handshake", status="OK", peer="127.0.0.1:2049")
    debian("keyctl", "clear", "%:.nfs")
