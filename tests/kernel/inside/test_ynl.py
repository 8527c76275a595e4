"""The kernel's own generic tool for netlink, YNL, as an agent of both of the kernel's forms of the service, by their
specs alone.

It checks a spec by the kernel's schema, joins groups by their names, and writes and reads every attribute by the spec.
The consumers are the tests' own, by the device of our module.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import raw
from tests.kernel.raw import Outcome, submitted
from tests.support.running import tcp_pairs
from tests.support.specs import KERNEL, SCHEMAS, SPECIFICATIONS, name_of, tree_of

# The schemas name their draft by https, and jsonschema knows it by http.
pytestmark = pytest.mark.filterwarnings("ignore:The metaschema specified by:DeprecationWarning")

PATIENCE = 20
OURS, RAW = (
    next(path for path in SPECIFICATIONS if name_of(path) == f"hsframework/netlink/specs/{name}.yaml")
    for name in ("handshake", "handshake-raw")
)
THEIRS = SCHEMAS / "specs" / "handshake.yaml"


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    with raw.loaded(protocols=4):
        yield


@pytest.fixture(scope="module")
def ynl() -> Iterator[Any]:
    """The library, from the test kernel's own tree."""
    folder = str(KERNEL / "tools" / "net" / "ynl")
    sys.path.insert(0, folder)
    yield importlib.import_module("pyynl")
    sys.path.remove(folder)


@contextlib.contextmanager
def agent(ynl: Any, specification: Path, group: str) -> Iterator[Any]:
    """Start an agent that has joined a group; the spec was checked by the schema of its protocol."""
    schema = SCHEMAS / f"{tree_of(specification)['protocol']}.yaml"
    with ynl.YnlFamily(str(specification), schema=str(schema)) as family:
        family.ntf_subscribe(group)
        yield family


def announcement(family: Any) -> dict[str, Any]:
    """Wait for the next announcement and return it."""
    found: dict[str, Any] = next(family.poll_ntf(duration=PATIENCE))
    return found


@contextlib.contextmanager
def closed_on_failure(fd: int) -> Iterator[None]:
    """Close a descriptor by DONE on failure: without DONE its loan would keep the module from being unloaded."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise


@pytest.fixture
def near() -> Iterator[socket.socket]:
    with tcp_pairs() as ((made, _),):
        yield made


@pytest.mark.parametrize("specification", [OURS, THEIRS], ids=["ours", "the-kernels"])
def test_the_kernels_family(specification: Path, ynl: Any, near: socket.socket) -> None:
    """Subscribed, accepted with everything that was asked, completed: by our spec as by the kernel's own."""
    values = {"auth": raw.X509, "timeout": 4321, "certificate": 77, "private_key": 78, "peername": "server.example"}
    with agent(ynl, specification, "tlshd") as family:
        with pytest.raises(ynl.NlError) as refused:
            family.do("accept", {"handler-class": "tlshd"})
        assert refused.value.error == errno.EAGAIN
        with submitted(near, service=raw.KERNEL_TLS, **values) as request:
            assert announcement(family) == {"name": "ready", "msg": {"handler-class": "tlshd"}}
            taken = family.do("accept", {"handler-class": "tlshd"})
            fd = taken.pop("sockfd")
            with socket.socket(fileno=fd) as copy:
                assert copy.getpeername() == near.getpeername()
                assert taken == {
                    "message-type": "clienthello",
                    "timeout": 4321,
                    "auth-mode": "x509",
                    "certificate": [{"cert": 77, "privkey": 78}],
                    "peername": "server.example",
                }
                assert request.waits
                family.do("done", {"status": errno.EACCES, "sockfd": fd, "remote-auth": [21, 22]})
            assert request.outcome().status == errno.EACCES


@pytest.mark.parametrize(("group", "number"), [("tlshd", raw.TLSHD), ("quic", raw.QUIC), ("psp", raw.PSP)])
def test_the_raw_form(group: str, number: int, ynl: Any, near: socket.socket) -> None:
    """The group by its number in the spec, the nests by theirs, in each group."""
    values = {
        "role": raw.SERVER,
        "auth": raw.X509,
        "timeout": 4321,
        "urgency": 5,
        "handshake_type": 1,
        "certificate": 77,
        "private_key": 78,
        "peers": (11, 12),
        "peername": "server.example",
    }
    with agent(ynl, RAW, group) as family:
        assert family.do("accept", {"protocol": group}) == {"msg-status": "notready"}
        with submitted(near, protocol=number, **values) as request:
            assert announcement(family) == {"name": "ready", "msg": {}}
            taken = family.do("accept", {"protocol": group})
            fd = taken.pop("sockfd")
            with closed_on_failure(fd):
                with socket.socket(fileno=os.dup(fd)) as copy:
                    assert copy.getpeername() == near.getpeername()
                arguments = taken.pop("accept-resp")
                assert taken == {"msg-status": "ok", "protocol": group}
                assert arguments == {
                    "sockfd": fd,
                    "message-type": "serverhello",
                    "timeout": 4321,
                    "auth-mode": "x509",
                    "peer-identity": [11, 12],
                    "certificate": [{"cert": 77, "privkey": 78}],
                    "peername": "server.example",
                    "urgency": 5,
                    "handshake-type": "rekey",
                }
                assert request.waits
                completion = {"sockfd": fd, "protocol": group, "done-args": {"status": 0, "remote-auth": [21, 22]}}
                assert family.do("done", completion) is None
            assert request.outcome() == Outcome(0, (21, 22))
            assert family.do("done", completion) == {"msg-status": "badf"}


def test_another_group_is_not_joined(ynl: Any, near: socket.socket) -> None:
    """A number that is not the group's would be noticed: nobody receives a request."""
    with agent(ynl, RAW, "quic"), raw.Submission() as request:
        with pytest.raises(OSError) as refused:
            request.submit(near.fileno(), protocol=raw.TLSHD)
        assert refused.value.errno == errno.ESRCH
