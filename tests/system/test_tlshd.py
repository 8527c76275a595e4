"""Side by side with tlshd, in the same boot and with the same certificates: what is measured is written, not judged.

In User-Mode Linux fork and page faults cost far more than on hardware, and tlshd forks for each handshake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.system import administrator as admin
from tests.system.guest import KEPT, Guest

MOUNTS = 25
AGENTS = {"hsframework": admin.UNITS, "tlshd": ("tlshd.service",)}
READY = "awk '$2 == 16 && $4 != \"00000000\"' /proc/net/netlink | grep -q ."
"""True once a process is a member of a group of generic netlink."""


@pytest.fixture
def alone(main: Guest) -> Iterator[Guest]:
    """The main guest with tlshd's configuration in place, and no mount."""
    admin.credentials(main, "/etc/tlshd.d", ("host",), ("nfs",))
    main.write("/etc/tlshd.conf", admin.tlshd_configuration("/etc/tlshd.d"))
    main.run("umount --all --types nfs4")
    admin.export(main)
    yield main
    main.run("systemctl stop tlshd; systemctl start hsframework")


def test_side_by_side(alone: Guest) -> None:
    """Both serve a row of mounts; time to ready, seconds for each mount and memory are written to a file."""
    found = {}
    for name, units in AGENTS.items():
        alone.run("systemctl stop hsframework tlshd; sync; echo 3 >/proc/sys/vm/drop_caches")
        started = alone.run(f"date +%s%N; systemctl start {units[0]}; until {READY}; do :; done; date +%s%N").split()
        row = admin.program(alone, "mounts", MOUNTS, "mtls", timeout=300)
        assert row["failed"] == []
        memory = admin.program(alone, "memory", *units)
        found[name] = {
            "ready_s": round((int(started[1]) - int(started[0])) / 1e9, 2),
            "first_mount_s": row["seconds"][0],
            "median_mount_s": sorted(row["seconds"])[MOUNTS // 2],
            "all_mounts_s": round(sum(row["seconds"]), 2),
            **memory,
        }
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "beside-tlshd.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
