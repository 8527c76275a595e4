"""NFS over TLS between the guest and itself: three kinds of transport security on each end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import administrator as admin
from tests.system.guest import Guest
from tests.system.prepared import BOOT_MOUNT

KINDS = ("none", "tls", "mtls")


@pytest.fixture
def alone(main: Guest) -> Iterator[Guest]:
    """The main guest without a mount, since a second mount would use the first one's connection."""
    main.ask(["umount", "--all", "--types", "nfs4"])
    yield main
    main.ask(["umount", "--all", "--types", "nfs4"])
    admin.export(main)
    main.ask(["mount", BOOT_MOUNT])


@pytest.mark.parametrize("mounted", KINDS)
@pytest.mark.parametrize("exported", KINDS)
def test_an_export_admits_its_kind_alone(alone: Guest, exported: str, mounted: str) -> None:
    """Each of nine combinations: equal kinds mount and carry a file both ways, others are refused."""
    admin.export(alone, exported)
    done = admin.mount(alone, mounted)
    if exported != mounted:
        assert done.code != 0
        return
    assert done.code == 0, done.output
    shown = alone.run("findmnt --noheadings --output OPTIONS /mnt/nfs")
    assert ("xprtsec=" not in shown) if mounted == "none" else (f"xprtsec={mounted}" in shown)
    alone.run("echo from the client >/mnt/nfs/a; grep -q client /export/a; echo from the server >/export/b")
    alone.run("grep -q server /mnt/nfs/b; rm /export/a /export/b")
