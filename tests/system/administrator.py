"""Steps of an administrator in a guest: install, configure, export, mount; and facts that can be read there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsframework.testing.certificates import Authority, to_pem
from scripts.guests import wheels
from scripts.guests.releases import RELEASES
from tests.kernel import uml
from tests.system.guest import COMMAND, Done, Guest

INSIDE = Path(__file__).with_name("inside")
ETC = "/etc/hsframework"
SERVER = "server.example"
"""The guest by its other name, on its loopback."""
AUTHORITY = Authority("System Test Root")
CONFIGURATION = """
[identities.host]
certificate = "host.pem"
private-key = "host.key"

[trust.nfs]
bundle = ["nfs.pem"]

[profiles.kernel-client]
identities = ["host"]
trust = "nfs"

[profiles.kernel-server]
identities = ["host"]
trust = "nfs"
client-certificate = "request"
"""
"""As in docs/howto/configure.md."""
UNITS = ("hsframework.service", "hsframework-agent@tls13.service")


def install_packages(guest: Guest, *plugins: str, revision: str = "1") -> None:
    """Install our Debian packages for the guest's release: the core and these plugins."""
    environment = os.environ | {"DEB_OUTPUT": str(guest.shared / "packages"), "DEB_REVISION": revision}
    command = [sys.executable, "-m", "scripts.packages", guest.suite]
    done = subprocess.run(command, env=environment, cwd=uml.CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = ["hsframework", *(f"hsframework-{plugin}" for plugin in plugins)]
    files = " ".join(f"/run/host/packages/{guest.suite}/{name}_*-{revision}~*.deb" for name in names)
    guest.run(f"apt-get install --yes {files}", timeout=300)


def install_wheels(guest: Guest, *plugins: str, environment: str = "/opt/hsframework") -> None:
    """Install our wheels and their requirements in a virtual environment."""
    release = next(release for release in RELEASES if release.suite == guest.suite)
    folder = guest.shared / "wheels"
    guest.put(wheels.needed(release).path / "wheels")
    wheels.ours(folder)
    names = " ".join(["hsframework", *(f"hsframework-{plugin}" for plugin in plugins)])
    pip = f"{environment}/bin/pip install --quiet --disable-pip-version-check --no-index --find-links /run/host/wheels"
    guest.run(f"python3 -m venv {environment} && {pip} {names}", timeout=300)


def credentials(guest: Guest, folder: str, identities: Sequence[str], authorities: Sequence[str]) -> None:
    """Write a certificate of the guest's names and its key for each identity, and our root for each authority.

    NAME.pem and NAME.key; NAME.pem and NAME.crl.
    """
    credential = AUTHORITY.issue([SERVER, "guest", "localhost"])
    for name in identities:
        guest.write(f"{folder}/{name}.pem", credential.certificate_pem.decode())
        guest.write(f"{folder}/{name}.key", credential.private_key_pem.decode(), 0o600)
    for name in authorities:
        guest.write(f"{folder}/{name}.pem", AUTHORITY.certificate_pem.decode())
        guest.write(f"{folder}/{name}.crl", to_pem(AUTHORITY.crl([]), "X509 CRL").decode())


def configure(guest: Guest) -> None:
    """Write a configuration for NFS with certificates, on both ends, and the names of the servers."""
    guest.run(f"grep -q {SERVER} /etc/hosts || echo 127.0.0.1 {SERVER} >>/etc/hosts")
    credentials(guest, ETC, ("host",), ("nfs",))
    guest.write(f"{ETC}/hsframework.toml", CONFIGURATION)


def tlshd_configuration(folder: str) -> str:
    """Return tlshd's configuration with the same credentials on both ends."""
    files = {"x509.truststore": "nfs.pem", "x509.certificate": "host.pem", "x509.private_key": "host.key"}
    lines = "".join(f"{option}={folder}/{name}\n" for option, name in files.items())
    return f"[debug]\nloglevel=0\ntls=0\nnl=0\n[authenticate.client]\n{lines}[authenticate.server]\n{lines}"


def export(guest: Guest, security: str = "mtls") -> None:
    """Export /export to everybody who shows this kind of transport security."""
    option = f",xprtsec={security}" if security else ""
    guest.write("/etc/exports", f"/export *(rw,no_root_squash,insecure,no_subtree_check{option})\n")
    guest.run("mkdir -p /export; systemctl start nfs-server; exportfs -ra")


def mount(guest: Guest, security: str = "mtls", *, folder: str = "/mnt/nfs", options: str = "") -> Done:
    """Mount the export; one attempt."""
    guest.run(f"mkdir -p {folder}")
    chosen = f"retry=0,xprtsec={security}{options}"
    return guest.ask(["mount", "-t", "nfs4", "-o", chosen, f"{SERVER}:/export", folder])


def unmount(guest: Guest, folder: str = "/mnt/nfs") -> None:
    """Take the mount away."""
    guest.run(f"umount {folder}")


def program(guest: Guest, name: str, *arguments: object, timeout: float = COMMAND) -> Any:
    """Run a program of ``inside/`` in the guest, and return what its last line says in JSON."""
    guest.put(INSIDE)
    words = " ".join(str(argument) for argument in arguments)
    output = guest.run(f"python3 -B /run/host/inside/{name}.py {words}", timeout)
    return json.loads(output.splitlines()[-1])


def state(guest: Guest, unit: str = "hsframework.service") -> str:
    """Return a unit's state, such as ``active``."""
    return guest.ask(["systemctl", "is-active", unit]).output.strip()


def show(guest: Guest, name: str, unit: str = "hsframework.service") -> str:
    """Return a property of a unit."""
    return guest.run(f"systemctl show --value --property {name} {unit}").strip()


def running(guest: Guest) -> str:
    """Wait for the end of the boot, and return ``running``, or ``degraded`` with the units that failed."""
    found = guest.ask(["systemctl", "is-system-running", "--wait"]).output.strip()
    if found == "running":
        return found
    return f"{found}: {guest.run('systemctl --failed --plain --no-legend')}"


@dataclass(frozen=True, slots=True)
class Message:
    """One line of the journal."""

    priority: int
    program: str
    text: str


def journal(guest: Guest, *words: str) -> list[Message]:
    """Return the messages of this boot that ``journalctl`` chooses with these words."""
    listed = guest.run(f"journalctl --boot --output json {' '.join(words)}").splitlines()
    found = []
    for line in listed:
        entry = json.loads(line)
        text = entry.get("MESSAGE") or ""
        if isinstance(text, list):  # bytes that are no UTF-8
            text = bytes(text).decode(errors="replace")
        found.append(Message(int(entry.get("PRIORITY", 6)), entry.get("SYSLOG_IDENTIFIER", ""), text))
    return found


def warnings(guest: Guest) -> list[Message]:
    """Return messages of this boot of priority warning or worse, by our units or about them."""
    ours = journal(guest, "--unit", "'hsframework*'", "--priority", "warning")
    about = [message for message in journal(guest, "--priority", "warning") if "hsframework" in message.text]
    return ours + [message for message in about if message not in ours]
