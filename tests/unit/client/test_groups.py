"""Questions about the service: what is said where the dispatcher ends in their midst."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from hsframework.client import groups
from hsframework.errors import ClientError


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Return the end of a dispatcher to which the connection is made."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(groups, "open_socket", lambda _: near)
    monkeypatch.setattr(groups, "connect", lambda *_: None)
    return far


@pytest.mark.parametrize("before", [True, False])
def test_a_dispatcher_that_ends(far: socket.socket, before: bool) -> None:
    """Before it has read the question, or after: the connection is said to have ended, and not that none was made."""
    with far:
        if before:
            far.close()
        else:
            far.shutdown(socket.SHUT_WR)
        with pytest.raises(ClientError, match=r"^the dispatcher ended the connection before it had answered") as caught:
            groups.service_status(Path("/run"))
    assert caught.value.errno == errno.ECONNRESET


@pytest.mark.parametrize("text", ["", "[[1", "[" * 100_000, "{}", "7"])
def test_steps_of_an_agent_that_are_none(text: str) -> None:
    """They are left out, and the trace goes on."""
    assert groups._steps(text) == []


def test_an_answer_that_is_none(far: socket.socket) -> None:
    """It is said to be a breach of the protocol."""
    with far, pytest.raises(ClientError, match=r"^the dispatcher broke the protocol: ") as caught:
        far.send(b"hello")
        groups.service_status(Path("/run"))
    assert caught.value.errno == errno.EPROTO
