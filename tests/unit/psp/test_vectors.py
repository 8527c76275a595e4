"""The vectors of docs/design/psp-handshake.md and of the PSP Architecture Specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scapy.contrib.psp import PSP, PSPIntegrityError

from hsframework.interface import Role, Secret
from hsframework_psp.binding import Binding
from hsframework_psp.derivation import derive_key
from hsframework_psp.exchange import Exchange
from hsframework_psp.keys import Grant, Key
from hsframework_psp.messages import Carrier
from hsframework_psp.packets import PacketOpener, PacketSealer, decapsulate
from hsframework_psp.versions import PHASE_BIT, Version
from hsframework_tls13.ciphers import BY_NAME
from tests.unit.psp.support import Side

FOLDER = Path(__file__).parent / "vectors"
PACKETS: dict[str, Any] = json.loads((FOLDER / "packets.json").read_text())
EXCHANGE: dict[str, Any] = json.loads((FOLDER / "exchange.json").read_text())
each_packet = pytest.mark.parametrize("vector", PACKETS["packets"], ids=lambda vector: vector["name"])


def key_of(version: int, spi: str) -> bytes:
    number = int(spi, 16)
    return derive_key(bytes.fromhex(PACKETS["device_keys"][bool(number & PHASE_BIT)]), Version(version), number)


@pytest.mark.parametrize("vector", PACKETS["derived"], ids=lambda vector: f"version {vector['version']}")
def test_derived_keys(vector: dict[str, Any]) -> None:
    """AES-CMAC in counter mode under the device key that the SPI's phase names."""
    assert key_of(vector["version"], vector["spi"]).hex() == vector["key"]


@each_packet
def test_published_packets(vector: dict[str, Any]) -> None:
    """Ours are the same to the byte, and theirs open."""
    key = key_of(vector["version"], vector["spi"])
    version, spi = Version(vector["version"]), int(vector["spi"], 16)
    packet, payload = bytes.fromhex(vector["packet"]), bytes.fromhex(PACKETS["payload"])
    cookie = None if vector["cookie"] is None else bytes.fromhex(vector["cookie"])
    sealer = PacketSealer(version, spi, key, next_iv=vector["iv"])
    arguments: dict[str, Any] = {"crypt_offset": vector["crypt_offset"], "cookie": cookie}
    assert sealer.seal(payload, next_header=vector["next_header"], **arguments) == packet
    opened = PacketOpener(version, spi, key).open(packet)
    assert (opened.payload, opened.cookie) == (payload, cookie)
    assert decapsulate(bytes.fromhex(vector["udp"]) + packet) == packet


@pytest.mark.parametrize("version", [Version.AES_GCM_128, Version.AES_GCM_256], ids=lambda version: version.label)
@pytest.mark.parametrize("offset", range(0, 68, 4))
def test_against_scapy(version: Version, offset: int) -> None:
    """An independent implementation opens ours, makes the same, and refuses what was changed."""
    key, spi, payload = bytes(range(version.key_size)), 0x1234, bytes(range(100))
    ours = PacketSealer(version, spi, key, next_iv=77).seal(payload, next_header=6, crypt_offset=offset)
    theirs = PSP(
        nexthdr=6, cryptoffset=offset // 4, version=int(version), spi=spi, iv=(77).to_bytes(8, "big"), data=payload
    )
    theirs.encrypt(key)
    assert bytes(theirs) == ours
    theirs.decrypt(key)
    assert theirs.data == payload
    changed = PSP(ours[:-1] + bytes([ours[-1] ^ 1]))
    with pytest.raises(PSPIntegrityError):
        changed.decrypt(key)


def test_a_whole_exchange() -> None:
    """The messages and proofs of the document's vector, byte by byte."""
    version = Version(EXCHANGE["version"])
    secret = Binding(BY_NAME[EXCHANGE["suite"]], Secret(bytes.fromhex(EXCHANGE["exporter_secret"])))
    choices = [(Carrier(carrier), Version(item)) for carrier, item in EXCHANGE["choices"]]
    grants = {role: _grant(role.name.lower()) for role in Role}
    ends = {role: _Scripted(Exchange(role, secret, choices), grants[role]) for role in Role}
    for end in ends.values():
        end.begin()
    sent = EXCHANGE["messages"]
    ends[Role.SERVER].receive(bytes.fromhex(sent["offer"]))
    ends[Role.CLIENT].receive(bytes.fromhex(sent["answer"]))
    ends[Role.SERVER].receive(bytes.fromhex(sent["keys"]))
    ends[Role.SERVER].receive(bytes.fromhex(sent["client_proof"]))
    ends[Role.CLIENT].receive(bytes.fromhex(sent["server_proof"]))
    assert all(end.done and end.exchange.version == version for end in ends.values())
    assert [data.hex() for data in ends[Role.CLIENT].sent] == [sent[name] for name in ("offer", "keys", "client_proof")]
    assert [data.hex() for data in ends[Role.SERVER].sent] == [sent["answer"], sent["server_proof"]]


def _grant(side: str) -> Grant:
    return Grant(int(EXCHANGE[f"{side}_spi"], 16), Key(bytes.fromhex(EXCHANGE[f"{side}_key"])))


class _Scripted(Side):
    """A side whose device gives out what the vector says."""

    def __init__(self, exchange: Exchange, grant: Grant) -> None:
        super().__init__(exchange)
        self.grant = grant

    def grant_for(self, version: Version) -> Grant:
        return self.grant
