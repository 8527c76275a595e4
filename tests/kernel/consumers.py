"""The kernel's consumers of handshakes, set up by programs of the Debian root; and tlshd, whose place we take.

All of it is in the network namespace of the caller, or in a named one (``ip netns``) where a parameter says so.  The
names of the servers are in the root's /etc/hosts.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hsframework.testing.certificates import Credential
from tests.kernel.machine import DEBIAN, debian, load

NVME = Path("/sys/kernel/config/nvmet")
HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"


def in_namespace(namespace: str | None, *command: str) -> tuple[str, ...]:
    """Return the command to run in a network namespace, and in no other mount namespace (as by ``ip netns exec``)."""
    return ("nsenter", f"--net=/run/netns/{namespace}", *command) if namespace else command


@contextlib.contextmanager
def joined_namespace(name: str, near: str, far: str) -> Iterator[str]:
    """Make a network namespace, and a wire to it from ours with an address at each end."""
    debian("ip", "netns", "add", name)
    try:
        debian("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "wire", "netns", name)
        for where, device, address in (((), f"to-{name}", near), (("-n", name), "wire", far)):
            debian("ip", *where, "address", "add", f"{address}/24", "dev", device)
            debian("ip", *where, "link", "set", device, "up")
        debian("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        debian("ip", "link", "delete", f"to-{name}")
        debian("ip", "netns", "delete", name)


def until(met: Callable[[], object], what: str, timeout: float = 20.0) -> None:
    """Wait for what has no event to wait for."""
    deadline = time.monotonic() + timeout
    while not met():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def daemon(*command: str, namespace: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of the root in the background, and end it."""
    with subprocess.Popen(["chroot", str(DEBIAN), *in_namespace(namespace, *command)], stdin=subprocess.DEVNULL) as run:
        try:
            yield run
        finally:
            run.terminate()


@contextlib.contextmanager
def tlshd(
    sections: Mapping[str, Mapping[str, str]],
    *,
    namespace: str | None = None,
    name: str = "tlshd",
    verbose: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the C agent with this configuration, and yield its process once it listens."""
    tlshd_configuration(DEBIAN / "etc" / f"{name}.conf", sections, verbose=verbose)
    before = listeners(namespace)
    with daemon("tlshd", "-s", "-c", f"/etc/{name}.conf", namespace=namespace) as run:
        until(lambda: listeners(namespace) > before, "tlshd listens")
        yield run


def tlshd_configuration(path: Path, sections: Mapping[str, Mapping[str, str]], *, verbose: bool = True) -> None:
    """Write a file for tlshd, or for `--tlshd-config`."""
    lines = [
        f"[{section}]\n" + "".join(f"{k}={v}\n" for k, v in values.items()) for section, values in sections.items()
    ]
    level = int(verbose)
    path.write_text(f"[debug]\nloglevel={level}\ntls={level}\nnl=0\n" + "".join(lines))


def listeners(namespace: str | None = None) -> int:
    """Count the generic netlink sockets (protocol 16) that have joined a group."""
    table = debian(*in_namespace(namespace, "cat", "/proc/net/netlink")).splitlines()[1:]
    return sum(1 for line in table if line.split()[1] == "16" and int(line.split()[3], 16))


def x509(credential: Credential, name: str) -> dict[str, str]:
    """Write the files of a section of tlshd's configuration, and return the section."""
    folder = DEBIAN / "etc" / "credentials" / name
    folder.mkdir(parents=True, exist_ok=True)
    files = credential.write(folder)
    pairs = (("truststore", files.ca), ("certificate", files.certificate), ("private_key", files.private_key))
    return {f"x509.{option}": f"/{path.relative_to(DEBIAN)}" for option, path in pairs}


def known_host(name: str, address: str) -> None:
    """Add a line to the root's /etc/hosts."""
    with open(DEBIAN / "etc" / "hosts", "a") as hosts:
        hosts.write(f"{address} {name}\n")


@contextlib.contextmanager
def mounted(kind: str, where: str, namespace: str | None = None) -> Iterator[Path]:
    """Mount a file system of that kind in the root and yield the directory as the test sees it."""
    place = DEBIAN / where.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    debian(*in_namespace(namespace, "mount", "-t", kind, kind, where))
    try:
        yield place
    finally:
        debian("umount", where)


@contextlib.contextmanager
def nfs_server(options: str, *, namespace: str | None = None) -> Iterator[Path]:
    """Export /srv/nfs with these options over NFS 4.2 alone, and yield the directory as the test sees it."""

    def enter(*command: str) -> None:
        debian(*in_namespace(namespace, *command))

    (DEBIAN / "etc" / "exports").write_text(f"/srv/nfs *(rw,fsid=0,no_root_squash,insecure,sync,{options})\n")
    tracked = DEBIAN / "var/lib/nfs/nfsdcld/main.sqlite"
    tracked.unlink(missing_ok=True)
    with (
        mounted("tmpfs", "/srv/nfs") as exported,
        mounted("nfsd", "/proc/fs/nfsd", namespace),
        mounted("rpc_pipefs", "/run/rpc_pipefs", namespace),
        daemon("rpc.mountd", "--foreground", "--no-nfs-version", "3", namespace=namespace),
        # It tells the server that no client has files open from before; else the first open waits for a grace period.
        daemon("nfsdcld", "--foreground", namespace=namespace),
    ):
        until(tracked.exists, "nfsdcld has made its database")
        enter("exportfs", "-ar")
        enter("rpc.nfsd", "--no-nfs-version", "3", "2")
        try:
            yield exported
        finally:
            enter("rpc.nfsd", "0")
            enter("exportfs", "-au")


@contextlib.contextmanager
def nfs_mount(server: str, options: str, *, namespace: str | None = None) -> Iterator[Path]:
    """Mount the server's root and yield the directory as the test sees it.  AssertionError has mount's words."""
    (DEBIAN / "mnt" / "nfs").mkdir(exist_ok=True)
    # retry=0: no second attempt by mount itself, which would go on for two minutes.
    command = ("mount", "-t", "nfs", "-o", f"vers=4.2,retry=0,{options}", f"{server}:/", "/mnt/nfs")
    debian(*in_namespace(namespace, *command))
    try:
        yield DEBIAN / "mnt" / "nfs"
    finally:
        debian(*in_namespace(namespace, "umount", "/mnt/nfs"))


@contextlib.contextmanager
def nvme_target(
    subsystem: str, address: str, *, tls: bool = True, namespace: str | None = None, backing: str = "/dev/ram0"
) -> Iterator[str]:
    """Offer a RAM disk, or a file, over TCP to every holder of a key, and yield the disk's path."""
    load("nvmet-tcp", "nvme-tcp")
    space = NVME / "subsystems" / subsystem / "namespaces" / "1"
    space.mkdir(parents=True)
    (space.parents[1] / "attr_allow_any_host").write_text("1")
    (space / "device_path").write_text(backing)
    (space / "buffered_io").write_text(str(int(not backing.startswith("/dev/"))))
    (space / "enable").write_text("1")
    port = NVME / "ports" / "1"
    port.mkdir()
    settings = {"trtype": "tcp", "adrfam": "ipv4", "traddr": address, "trsvcid": "4420"}
    for name, value in (settings | ({"tsas": "tls1.3", "treq": "required"} if tls else {})).items():
        (port / f"addr_{name}").write_text(value)
    offered = port / "subsystems" / subsystem
    # The port listens in the network namespace of whoever offers the first subsystem on it.
    debian(*in_namespace(namespace, "ln", "-s", str(space.parents[1]), str(offered)))
    try:
        yield backing
    finally:
        offered.unlink()
        port.rmdir()
        (space / "enable").write_text("0")
        space.rmdir()
        space.parents[1].rmdir()


def nvme_drop(subsystem: str, *, namespace: str | None = None) -> None:
    """Make the target drop every connection to the subsystem, and take new ones."""
    offered = NVME / "ports" / "1" / "subsystems" / subsystem
    offered.unlink()
    debian(*in_namespace(namespace, "ln", "-s", str(NVME / "subsystems" / subsystem), str(offered)))


@contextlib.contextmanager
def nvme_connection(
    subsystem: str, address: str, *options: str, attempts: int = 1, namespace: str | None = None
) -> Iterator[Path]:
    """Connect with ``nvme connect --tls`` and yield the block device.  Raises AssertionError with its words."""
    where = ("--transport=tcp", f"--traddr={address}", "--trsvcid=4420", f"--nqn={subsystem}")
    connect = ("nvme", "connect", *where, f"--hostnqn={HOST_NQN}", "--tls", "--nr-io-queues=1", *options)
    command = in_namespace(namespace, *connect)
    for _ in range(attempts - 1):
        with contextlib.suppress(AssertionError):
            debian(*command)
            break
    else:
        debian(*command)
    try:
        until(lambda: list(Path("/dev").glob("nvme*n1")), "the block device")
        yield next(Path("/dev").glob("nvme*n1"))
    finally:
        debian("nvme", "disconnect", f"--nqn={subsystem}")
        until(lambda: not list(Path("/dev").glob("nvme*n1")), "the block device is gone")


def nvme_key(subsystem: str, hash_number: int) -> None:
    """Put a new key for our host into the keyring .nvme, alone: 1 is SHA-256, 2 is SHA-384."""
    load("nvme-tcp")
    debian("keyctl", "clear", "%:.nvme")
    names = (f"--hostnqn={HOST_NQN}", f"--subsysnqn={subsystem}")
    debian("nvme", "gen-tls-key", "--insert", "--keyring=.nvme", f"--hmac={hash_number}", *names)
