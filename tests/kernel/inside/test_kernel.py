"""The test kernel is the right one: it has what a kernel with the handshake upcall has, by the kernel's own account."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from hsframework.testing.certificates import Authority
from hsframework.tls.kernel import TCP_ULP
from tests.kernel import uml
from tests.kernel.genl import GenericNetlink, numbers
from tests.kernel.machine import (
    DEBIAN,
    NOBODY,
    add_key,
    debian,
    describe_key,
    in_a_child,
    load,
    loaded,
    read_key,
    unlink_key,
)

GENL_ADMIN_PERM = 1
READY, ACCEPT, DONE = 1, 2, 3


def test_it_is_our_kernel() -> None:
    """User-Mode Linux, recent enough for every part that is tested (PSP: 6.18)."""
    assert "User-Mode Linux" in Path("/proc/cpuinfo").read_text() or "UML" in Path("/proc/cpuinfo").read_text()
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    assert release >= (6, 18)


def test_handshake_family() -> None:
    """Groups none and tlshd; accept and done ask for CAP_NET_ADMIN."""
    with GenericNetlink() as netlink:
        family = netlink.family("handshake")
    assert set(family.groups) == {"none", "tlshd"}
    assert {command: bool(flags & GENL_ADMIN_PERM) for command, flags in family.operations.items()} == {
        ACCEPT: True,
        DONE: True,
    }


def test_policy_of_the_handshake_family() -> None:
    """CTRL_CMD_GETPOLICY tells which attributes accept and done take."""
    with GenericNetlink() as netlink:
        per_command = netlink.operation_policies("handshake")
        policies = netlink.policy("handshake")
    assert set(policies[per_command[DONE]]) == {1, 2, 3}
    assert set(policies[per_command[ACCEPT]]) == {2}


def test_nothing_is_queued() -> None:
    """ACCEPT on an empty queue is EAGAIN, for root; a user gets EPERM."""

    def accept() -> int:
        with GenericNetlink() as netlink, pytest.raises(OSError) as refused:
            netlink.ask(netlink.family("handshake").identifier, ACCEPT, struct.pack("=HHI", 8, 2, 1))
        assert refused.value.errno is not None
        return refused.value.errno

    def as_a_user() -> None:
        assert accept() == errno.EPERM

    assert accept() == errno.EAGAIN
    in_a_child(as_a_user, NOBODY)


def test_keys() -> None:
    """A key of type user: added, described, read back, unlinked and gone."""
    serial = add_key("user", "hsframework:probe", b"payload")
    kind, *_, description = describe_key(serial)
    assert (kind, description) == ("user", "hsframework:probe")
    assert read_key(serial) == b"payload"
    unlink_key(serial)
    with pytest.raises(OSError) as gone:
        read_key(serial)
    assert gone.value.errno in (errno.ENOKEY, errno.EACCES)


def test_certificates_as_keys() -> None:
    """The kernel parses an X.509 certificate into a key of type asymmetric."""
    leaf = Authority("Kernel Test Root").issue(["kernel.test"]).identity.chain[0]
    serial = add_key("asymmetric", "", leaf)
    assert describe_key(serial)[0] == "asymmetric"
    unlink_key(serial)


def test_nvme_keyring() -> None:
    """nvme-tcp and its target load, and bring the keyring .nvme."""
    load("nvme-tcp", "nvmet-tcp")
    assert {"nvme_tcp", "nvmet_tcp", "nvme_keyring"} <= loaded()
    assert any(line.split()[-2:] == ["keyring", ".nvme:"] or ".nvme" in line for line in _proc_keys())
    assert Path("/sys/kernel/config/nvmet/subsystems").is_dir()
    assert Path("/dev/nvme-fabrics").exists()


def _proc_keys() -> list[str]:
    return Path("/proc/keys").read_text().splitlines()


def test_psp_on_netdevsim() -> None:
    """The family psp, and a simulated device that it lists."""
    load("netdevsim")
    Path("/sys/bus/netdevsim/new_device").write_text("7 1")
    try:
        with GenericNetlink() as netlink:
            family = netlink.family("psp")
            devices = [numbers(device) for device in netlink.ask(family.identifier, 1, dump=True)]
    finally:
        Path("/sys/bus/netdevsim/del_device").write_text("7")
    assert set(family.groups) == {"mgmt", "use"}
    (device,) = devices
    assert device[3] & 0b11 == 0b11


def test_modules_load_by_themselves() -> None:
    """The kernel finds its modules by the Debian root's modprobe: one loads when it is first asked for."""
    debian("modprobe", "--remove", "tls", check=False)
    assert "tls" not in loaded()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    assert "tls" in loaded()


def test_seccomp_filter() -> None:
    """A filter that refuses openat with EACCES refuses it."""

    def confined() -> None:
        _refuse_open()
        with pytest.raises(PermissionError):
            open("/proc/version")

    in_a_child(confined)


def _refuse_open() -> None:
    """Set a filter of seccomp(2): openat (257 on x86-64) → EACCES, all else allowed."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, 257), (0x06, 0, 0, 0x00050000 | errno.EACCES), (0x06, 0, 0, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    descriptor = ctypes.create_string_buffer(struct.pack("=H6xQ", len(code), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, descriptor) == 0, os.strerror(ctypes.get_errno())


def test_network_namespaces() -> None:
    """Two namespaces with a veth pair between them, made by the root's ip, are seen on both sides of the chroot."""
    for name in ("left", "right"):
        debian("ip", "netns", "add", name)
        assert Path("/run/netns", name).exists()
    debian("ip", "link", "add", "wire", "netns", "left", "type", "veth", "peer", "name", "wire", "netns", "right")
    for name, address in (("left", "192.0.2.1/24"), ("right", "192.0.2.2/24")):
        debian("ip", "-n", name, "address", "add", address, "dev", "wire")
        debian("ip", "-n", name, "link", "set", "wire", "up")
    debian("ip", "-n", "left", "route", "get", "192.0.2.2")
    for name in ("left", "right"):
        debian("ip", "netns", "delete", name)


def test_programs_of_the_root() -> None:
    """The programs in user space that the kernel's consumers need are there and start."""
    assert "tlshd" in debian("tlshd", "--help", check=False)
    assert "nvme version" in debian("nvme", "version")
    assert "mount.nfs" in debian("mount.nfs", "-V", check=False)
    for program in ("exportfs", "rpc.nfsd", "keyctl", "openssl", "gnutls-serv", "python3", "tc"):
        assert "/" in debian("sh", "-c", f"command -v {program}")


def test_the_checkout_is_in_the_root_too() -> None:
    """A program of the root sees the checkout where the host has it; it can write, and the host does not notice."""
    assert debian("cat", str(uml.CHECKOUT / "pyproject.toml")) == (uml.CHECKOUT / "pyproject.toml").read_text()
    debian("sh", "-c", "echo changed >/etc/hostname")
    assert (DEBIAN / "etc/hostname").read_text() == "changed\n"


def test_nfs_server_and_client_file_systems() -> None:
    """nfs and nfsd are in the kernel."""
    kinds = Path("/proc/filesystems").read_text().split()
    assert {"nfs4", "nfsd", "overlay", "tmpfs", "hostfs"} <= set(kinds)
