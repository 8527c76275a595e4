"""Debian packages: the tree of each, its control files, and the call of dpkg-deb."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from hsframework import __version__
from hsframework.cli.units import (
    Plugin,
    Target,
    agent_unit,
    core_files,
    drop_in_file,
    drop_ins,
    places,
    plugin_files,
    plugin_links,
)
from hsframework.registry.plugins import load_plugins
from scripts.packages.completions import completions
from scripts.packages.environment import CORE, HOME, PLUGINS, ROOT, Distributions, copy, make_environment, name_of
from scripts.packages.manuals import manuals
from scripts.packages.targets import Release

DEBIAN = ROOT / "packaging" / "debian"
SCRIPTS = ("postinst", "prerm", "postrm")
EXAMPLE = "usr/share/hsframework/hsframework.toml"
"""The example, which the first installation copies to /etc.  As a conffile each change of it would be a question to
everybody who has a configuration."""
PROGRAM = "/usr/bin/hsframework"
TRIGGERS = "interest-noawait hsframework-restart\n"
"""The core restarts what runs, once, when all packages of a run of dpkg are configured."""

LIBC = "libc6 (>= 2.28)"
"""Relation to the C library that the wheels want."""


TITLES = {
    CORE: "transport security handshakes as a service",
    "hsframework-tls13": "TLS 1.3 for hsframework, with kTLS sessions",
    "hsframework-quic": "QUIC for hsframework",
    "hsframework-psp": "PSP for hsframework, with a key exchange inside TLS 1.3",
}
ABOUT = {
    CORE: """The Linux kernel and programs hand over a connected socket; a plugin runs
the handshake and gives the socket back with a session on it. NFS with
xprtsec= and NVMe/TCP with TLS are served so, in the place of tlshd.
.
This package has the dispatcher and the units. Each mechanism is a package
of its own.""",
    "hsframework-tls13": """OpenSSL's handshake, with the session in the kernel (kTLS) or in user
space. NFS and NVMe/TCP need this one.""",
    "hsframework-quic": """QUIC v1 and v2 on UDP sockets, with aioquic, and on in-kernel QUIC
sockets.""",
    "hsframework-psp": """PSP between devices of the kernel's, or with a device in software.""",
}


@dataclass(frozen=True, slots=True)
class Build:
    """Facts that all packages of one build share.  ``revision``: Debian's; ``date``: seconds since 1970."""

    release: Release
    architecture: str
    revision: str
    maintainer: str
    date: int

    @property
    def version(self) -> str:
        """Version of the packages; a later release of Debian has a later one."""
        return f"{__version__}-{self.revision}~deb{self.release.number}"


@dataclass(slots=True)
class Package:
    """A package in the making.  ``tree``: its files.  ``words``: the places in its scripts, by name."""

    name: str
    tree: Path
    words: dict[str, str] = field(default_factory=dict)
    relations: dict[str, str] = field(default_factory=dict)

    def add(self, path: str | Path, text: str | bytes) -> None:
        """Write a file of the package."""
        target = self.tree / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def link(self, path: Path, target: str) -> None:
        """Make a symbolic link of the package."""
        source = self.tree / str(path).lstrip("/")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.symlink_to(target)


def fill_core(package: Package, distributions: Distributions, build: Build) -> None:
    """Add the files of the core."""
    copy(distributions.of(CORE), distributions.folder, package.tree, build.release)
    make_environment(package.tree, build.release)
    target = Target(PROGRAM, build.release.systemd)
    for path, text in core_files(places(Path("/usr")), target).items():
        package.add(path, text)
    for name in drop_ins():
        for path, text in drop_in_file(places(Path("/usr")), name, target).items():
            package.add(f"usr/share/doc/hsframework/examples/{path.name}", text)
    package.add(EXAMPLE, (ROOT / "packaging" / "hsframework.toml").read_text())
    for name, text in manuals().items():
        package.add(f"usr/share/man/man{name[-1]}/{name}.gz", gzip.compress(text.encode(), mtime=0))
    for shells_file, text in completions().items():
        package.add(shells_file, text)
    package.words = {
        "MAKE": f"{(DEBIAN / 'example').read_text()}\nsystemd-tmpfiles --create hsframework.conf",
        "STOPPED": "'hsframework-agent@*.service' hsframework.service",
        "PURGE": (DEBIAN / "purge").read_text(),
    }
    systemd = ("sysusers", "tmpfiles")
    helpers = ", ".join(f"systemd | systemd-standalone-{name} | systemd-{name}" for name in systemd)
    package.relations = {
        "Depends": f"{LIBC}, python{build.release.python}, {helpers}",
        "Recommends": "hsframework-tls13, libseccomp2",
        "Suggests": "nfs-common, nvme-cli",
    }


def fill_plugin(package: Package, distributions: Distributions, build: Build) -> None:
    """Add the files of a plugin."""
    copy(distributions.of(package.name), distributions.folder, package.tree, build.release)
    where, plugin = places(Path("/usr")), plugin_of(package.name)
    users, links = plugin_files(where, plugin), plugin_links(where, plugin)
    for path, text in users.items():
        package.add(path, text)
    for link, aim in links.items():
        package.link(link, aim)
    package.words = {
        "MAKE": f"systemd-sysusers {' '.join(path.name for path in users)}",
        "STOPPED": agent_unit(plugin.name),
        "PURGE": "",
    }
    required = {Requirement(text).name for text in metadata.requires(package.name) or ()}
    needed = [name for name in (CORE, *PLUGINS) if name in required]
    package.relations = {"Depends": ", ".join(f"{name} (= {build.version})" for name in needed) + f", {LIBC}"}


def plugin_of(package: str) -> Plugin:
    """Return the plugin of a package, as it is installed here."""
    for record in load_plugins().records:
        if record.distribution == package:
            return Plugin(record.name, record.protocols)
    raise ValueError(f"{package} is not installed here; make venv")


def finish(package: Package, distributions: Distributions, build: Build, output: Path) -> Path:
    """Add documentation and control files, and pack the package."""
    documentation = f"usr/share/doc/{package.name}"
    package.add(f"{documentation}/copyright", _copyright(distributions.of(package.name)))
    package.add(f"{documentation}/changelog.gz", gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))
    package.add(f"{documentation}/changelog.Debian.gz", gzip.compress(_changelog(package, build).encode(), mtime=0))
    package.add(f"usr/share/lintian/overrides/{package.name}", _filled("lintian-overrides", package))
    files = sorted(path for path in package.tree.rglob("*") if path.is_file() and not path.is_symlink())
    _set_modes(package.tree, build.date)
    control = package.tree / "DEBIAN"
    control.mkdir()
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(package.tree)}\n" for path in files)
    (control / "md5sums").write_text("".join(sums))
    (control / "control").write_text(_control(package, build, sum(path.stat().st_size for path in files)))
    settings = [f"/{path.relative_to(package.tree)}\n" for path in files if path.is_relative_to(package.tree / "etc")]
    if settings:
        (control / "conffiles").write_text("".join(settings))
    if package.name == CORE:
        (control / "triggers").write_text(TRIGGERS)
    for name in SCRIPTS:
        (control / name).write_text(_filled(name, package))
        (control / name).chmod(0o755)
    target = output / f"{package.name}_{build.version}_{build.architecture}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(package.tree), str(target)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(build.date)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return target


def _set_modes(tree: Path, date: int) -> None:
    """Set modes that do not depend on the umask.  dpkg-deb cuts the times to ``SOURCE_DATE_EPOCH``."""
    programs = tree / HOME[1:] / "bin"
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent == programs else 0o644)


def _control(package: Package, build: Build, size: int) -> str:
    fields: Mapping[str, str] = {
        "Package": package.name,
        "Version": build.version,
        "Architecture": build.architecture,
        "Maintainer": build.maintainer,
        "Section": "net",
        "Priority": "optional",
        "Installed-Size": str(size // 1024),
        **package.relations,
    }
    about = "".join(f" {line}\n" for line in ABOUT[package.name].splitlines())
    lines = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return f"{lines}Description: {TITLES[package.name]}\n{about}"


def _filled(name: str, package: Package) -> str:
    """Return a file of packaging/debian with the package's words in it."""
    text = (DEBIAN / name).read_text()
    for word, value in {**package.words, "PACKAGE": package.name, "HOME": HOME}.items():
        text = text.replace(f"@{word}@", value)
    return text


def _changelog(package: Package, build: Build) -> str:
    return (
        f"{package.name} ({build.version}) {build.release.name}; urgency=medium\n\n"
        f"  * Release {__version__}: see changelog.gz.\n\n"
        f" -- {build.maintainer}  {formatdate(build.date)}\n"
    )


def _copyright(distributions: Iterable[metadata.Distribution]) -> str:
    license_text = "".join(f" {line.strip() or '.'}\n" for line in (ROOT / "LICENSE").read_text().splitlines()[4:])
    parts = [(DEBIAN / "copyright").read_text().rstrip("\n") + "\n" + license_text]
    for item in distributions:
        name = name_of(item)
        if not name.startswith(CORE):
            data = item.metadata.json
            known = data.get("license_expression") or data.get("license") or "see its folder"
            parts.append(f"{data['name']} {item.version}: {' '.join(str(known).split())}")
    listed = "".join(f" {line}\n" for line in parts[1:])
    return parts[0] + (f"\nComment: Wheels in this package, each with its license:\n{listed}" if listed else "")
