"""An agent for the greeter (``modules/greeter``), made as the pages say: ``hsframework plugin new``, and a few lines.

Its handshake is the template's: each side sends a word, here the topic that the kernel's consumer names, and wants the
same one.  The greeting that it tells the consumer is sent by the kernel afterwards.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.kernel import raw
from tests.support.running import python_path

NAME = "greeter"
PROTOCOL = 4
_LINES = {
    "specs/greeter.yaml": {
        '{name: word, type: string, doc: "word that both sides must send, 1 to 64 bytes; absent: the setting word"}': (
            "{name: topic, value: 64, type: string}"
        ),
        '{name: version, type: u32, doc: "version of the frames; add further values that a consumer needs"}': (
            "{name: greeting, value: 65, type: string}"
        ),
    },
    "plugin.py": {
        "        if request.kernel_consumer:\n"
        '            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "no kernel takes a session of greeter")\n': "",
        'request.attributes.get("word", self._settings.word)': 'request.attributes.get("topic", self._settings.word)',
        'Result(peer=PeerIdentity(), session={"version": VERSION}, tags={"word": word})': (
            'Result(in_kernel=True, session={"greeting": f"let us talk about {word}"})'
        ),
    },
}


def make(folder: Path) -> Path:
    """Make the project and fill in the lines of the mechanism.  Its folder."""
    command = [sys.executable, "-m", "hsframework", "plugin", "new", NAME, "--folder", str(folder)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": python_path()}, check=True, stdout=subprocess.DEVNULL)
    project = folder / f"hsframework-{NAME}"
    for name, lines in _LINES.items():
        path = project / f"hsframework_{NAME}" / name
        text = path.read_text()
        for before, after in lines.items():
            assert before in text, f"{path} has no {before!r}"
            text = text.replace(before, after)
        path.write_text(text)
    return project


class Greeting:
    """An open file of the greeter's device: a connection of its consumer's."""

    def __init__(self) -> None:
        self.fd = os.open(f"/dev/{raw.GREETER}", os.O_RDWR | os.O_CLOEXEC)

    def start(self, sock: socket.socket, topic: str = "weather") -> Greeting:
        """Hand over a connection.  Raises OSError."""
        os.write(self.fd, f"{sock.fileno()} {topic}\n".encode())
        return self

    def status(self) -> int:
        """Wait for the outcome."""
        return int(os.read(self.fd, 16))

    def close(self) -> None:
        """Withdraw it, if it waits."""
        os.close(self.fd)

    def __enter__(self) -> Greeting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def greeted(near: socket.socket, far: socket.socket, topic: str = "weather", answer: str = "") -> tuple[int, bytes]:
    """Run a connection's handshake with a peer that answers with the topic, or another word.

    Return the consumer's status, and the greeting that the peer got.
    """
    word, reply = topic.encode(), (answer or topic).encode()
    far.settimeout(20)
    with Greeting() as greeting:
        greeting.start(near, topic)
        assert _exactly(far, 1 + len(word)) == bytes([len(word)]) + word
        far.sendall(bytes([len(reply)]) + reply)
        status = greeting.status()
        return status, far.recv(100)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"the connection ends after {data!r}"
        data += piece
    return data
