"""The published test vectors, read from ``data``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "data" / "flynn-noise-vectors.txt"


@dataclass(frozen=True)
class Vector:
    """A test vector.

    ``messages``: payload and ciphertext, the initiator's first, then in turns; transport messages likewise.
    """

    number: int
    protocol_name: str
    initiator_static: bytes
    responder_static: bytes
    initiator_ephemeral: bytes
    responder_ephemeral: bytes
    prologue: bytes
    psk: bytes | None
    messages: tuple[tuple[bytes, bytes], ...]

    @property
    def pattern(self) -> str:
        return self.protocol_name.split("_")[1][:2]

    @property
    def handshake_size(self) -> int:
        """Messages of the handshake; those after them are transport messages."""
        return {"XX": 3, "IK": 2}[self.pattern]

    def __str__(self) -> str:
        return f"{self.number}-{self.protocol_name.split('_')[1]}"


def read_vectors() -> list[Vector]:
    """Return every block of the file."""
    return [_vector(number, block) for number, block in enumerate(_blocks(FILE.read_text("utf-8")))]


def _blocks(text: str) -> Iterator[Mapping[str, str]]:
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line and not line.startswith("#")]
        if lines:
            yield dict(line.split("=", 1) for line in lines)


def _vector(number: int, block: Mapping[str, str]) -> Vector:
    def get(name: str) -> bytes:
        return bytes.fromhex(block.get(name, ""))

    count = sum(name.endswith("_ciphertext") for name in block)
    return Vector(
        number,
        block["handshake"],
        get("init_static"),
        get("resp_static"),
        get("gen_init_ephemeral"),
        get("gen_resp_ephemeral"),
        get("prologue"),
        get("preshared_key") or None,
        tuple((get(f"msg_{index}_payload"), get(f"msg_{index}_ciphertext")) for index in range(count)),
    )
