"""``hsframework forward`` on the command line: places, and options that do not fit together."""

from __future__ import annotations

import argparse
import asyncio
import socket
from pathlib import Path

import pytest

from hsframework.cli.main import main
from hsframework.cli.options.place import Place, place
from hsframework.errors import HsframeworkError


@pytest.mark.parametrize(
    ("text", "found", "shown"),
    [
        ("443", Place("127.0.0.1", 443), "127.0.0.1:443"),
        ("server.example:443", Place("server.example", 443), "server.example:443"),
        ("[::1]:443", Place("::1", 443), "[::1]:443"),
        ("unix:/run/a.sock", Place("", 0, "/run/a.sock"), "unix:/run/a.sock"),
    ],
)
def test_places(text: str, found: Place, shown: str) -> None:
    """Each form, and the way in which it is shown."""
    assert place(text) == found
    assert str(found) == shown


@pytest.mark.parametrize("text", ["", "host", "host:", "::1:443", "host:65536", "unix:"])
def test_what_is_no_place(text: str) -> None:
    """The error names what to write."""
    with pytest.raises(argparse.ArgumentTypeError):
        place(text)


def test_a_unix_socket(tmp_path: Path) -> None:
    """A stale socket file is replaced, one with a listener is not, and any other file stays."""
    where = place(f"unix:{tmp_path}/s")
    where.listen().close()
    with where.listen() as listener:
        near = asyncio.run(where.connect(5))
        near.close()
        with pytest.raises(HsframeworkError, match="cannot listen on unix:"):
            where.listen()
        assert listener.fileno() >= 0
    with pytest.raises(HsframeworkError, match="Connection refused"):
        asyncio.run(where.connect(5))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HsframeworkError, match="cannot listen"):
        place(f"unix:{tmp_path}/file").listen()
    assert (tmp_path / "file").read_text() == "mine"


PLACES = ["forward", "--listen", "0", "--to", "localhost:1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--send-proxy", "1"], "--send-proxy is a server's"),
        (["--client-certificate", "require"], "--client-certificate is a server's"),
        (["--server", "--servername", "x"], "leave them out with --server"),
        (["--server", "--psk", "a:00112233445566778899aabbccddeeff", "--allow", "x"], "--client-certificate require"),
        (["--server"], "prove who it is"),
        (["--connections", "0"], "at least one"),
        (["--to", "unix:/nowhere"], "--servername"),
        (["--protocol", "quic"], "TCP and unix sockets"),
    ],
)
def test_options_that_do_not_fit(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and one line that says what to change."""
    assert main([*PLACES, *words]) == 2
    assert said in capsys.readouterr().err


def test_no_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a dispatcher nothing listens: the error says what to start."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert main([*PLACES, "--listen", str(port), "--any-name", "--runtime-dir", str(tmp_path)]) == 1
    assert "hsframework run" in capsys.readouterr().err
