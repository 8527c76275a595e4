"""Debian packages on each release: installed by apt, used, upgraded, removed, purged."""

from __future__ import annotations

import json
import re

from scripts.guests.chroot import Chroot
from scripts.packages.targets import RELEASES
from tests.packages.conftest import Packages

USERS = {f"hsframework-{plugin}" for plugin in ("tls13", "quic", "psp")}
OURS = "hsframework hsframework-tls13 hsframework-quic hsframework-psp"


def test_apt_installs_them_without_a_complaint(installed: Chroot) -> None:
    """apt finds all that they depend on in the release, and no script of theirs warns."""
    assert not re.search(r"^(W|E|dpkg): |warning|error", installed.said, re.MULTILINE), installed.said
    status = installed.run(f"dpkg-query --show --showformat='${{db:Status-Status}}\\n' {OURS}")
    assert status.split() == ["installed"] * 4


def test_every_plugin_is_in_use(installed: Chroot) -> None:
    """The program runs on the release's own Python and finds the plugins of the packages."""
    rows = json.loads(installed.run("hsframework plugins --json"))
    assert {row["name"]: row["error"] for row in rows} == {"psp": None, "quic": None, "tls13": None}
    release = RELEASES[installed.suite]
    found = installed.run("/usr/lib/hsframework/bin/python3 -c 'import sys; print(sys.version)'")
    assert found.startswith(release.python + ".")


def test_handshakes(installed: Chroot) -> None:
    """`hsframework demo` shakes hands with OpenSSL, aioquic and itself, on this Python; no warning is hidden."""
    said = installed.run("PYTHONWARNINGS=always /usr/lib/hsframework/bin/python3 -m hsframework demo 2>&1")
    assert "Warning" not in said


def test_users_and_folders(installed: Chroot) -> None:
    """Each agent has a user of its own; the folder of the sockets and an example of a configuration are there."""
    names = installed.run("getent passwd | cut -d : -f 1").split()
    assert set(names) >= USERS
    assert installed.run("stat -c '%a %U' /run/hsframework /etc/hsframework/hsframework.toml") == "755 root\n644 root\n"
    assert installed.run("hsframework doctor | grep -c '^ok .*plugins'") == "1\n"


def test_systemd_takes_the_units(installed: Chroot) -> None:
    """The release's systemd knows every line, and the service starts the agents whose packages are installed."""
    assert (
        installed.run("systemd-analyze verify --man=no hsframework.service hsframework-agent@tls13.service 2>&1") == ""
    )
    wanted = installed.run("ls /usr/lib/systemd/system/hsframework.service.wants")
    assert wanted.split() == [f"hsframework-agent@{name}.service" for name in ("psp", "quic", "tls13")]


def test_modules_are_compiled(installed: Chroot) -> None:
    """No start compiles a module again, and none that is not ours is left behind."""
    source = "find /usr/lib/hsframework -name '*.py' | wc -l"
    compiled = "find /usr/lib/hsframework -name '*.pyc' | wc -l"
    assert int(installed.run(compiled)) >= int(installed.run(source))
    assert installed.run(f"dpkg --verify {OURS}") == ""


def test_a_plugin_of_ones_own(trixie: Chroot) -> None:
    """A plugin in /usr/local/lib/hsframework is found beside those of the packages."""
    code = "import hsframework\n@hsframework.hookimpl\ndef hsframework_handshake_finished():\n    pass\n"
    folder = "/usr/local/lib/hsframework"
    info = f"{folder}/audit-1.0.dist-info"
    trixie.run(f"mkdir -p {info} && printf %s '{code}' > {folder}/audit.py")
    trixie.run(f"printf 'Metadata-Version: 2.1\\nName: audit\\nVersion: 1.0\\n' > {info}/METADATA")
    trixie.run(f"printf '[hsframework]\\naudit = audit\\n' > {info}/entry_points.txt")
    rows = json.loads(trixie.run("hsframework plugins --json"))
    assert {row["name"]: row["error"] for row in rows}["audit"] is None


def test_upgrade_and_repetition(trixie: Chroot, packages: Packages) -> None:
    """An upgrade keeps an edited configuration without a question, whatever has become of the example (no file of ours
    in /etc is dpkg's), and each script may be run again."""
    assert trixie.run("dpkg-query --show --showformat='${Conffiles}' 'hsframework*'") == ""
    trixie.run("echo '[log]' >> /etc/hsframework/hsframework.toml")
    trixie.copy(packages.of("trixie", "2"), "debs")
    trixie.run("apt-get install --yes --no-install-recommends /debs/*.deb")
    assert trixie.run("tail -n 1 /etc/hsframework/hsframework.toml") == "[log]\n"
    assert trixie.run("dpkg-query --show --showformat='${Version}' hsframework").startswith("0.1.0-2~")
    for _ in range(2):
        trixie.run("dpkg-reconfigure hsframework hsframework-tls13")
    trixie.run("hsframework plugins")


def test_removal_and_purge(trixie: Chroot) -> None:
    """A removal leaves the configuration, a purge the users alone."""
    everything = "find / -xdev -name '*hsframework*' -not -path '/debs*' -not -path '/proc/*' -not -path '/var/log/*'"
    trixie.run("systemctl enable hsframework.service")
    trixie.run(f"apt-get remove --yes {OURS}")
    left = set(trixie.run(everything).split())
    assert "/etc/hsframework/hsframework.toml" in left
    assert not any(path.startswith("/usr/lib/") for path in left)
    trixie.run(f"apt-get purge --yes {OURS}")
    assert trixie.run(everything) == ""
    assert set(trixie.run("getent passwd | cut -d : -f 1").split()) >= USERS


def test_one_plugin_goes(trixie: Chroot) -> None:
    """The core and the other plugins stay in use when one is removed."""
    trixie.run("apt-get purge --yes hsframework-quic")
    rows = json.loads(trixie.run("hsframework plugins --json"))
    assert {row["name"] for row in rows} == {"psp", "tls13"}
