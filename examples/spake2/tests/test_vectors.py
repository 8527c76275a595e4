"""The published vectors: RFC 9382, Appendix B."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hsframework.interface import Role

from hsframework_spake2.spake2 import Side

VECTORS = tomllib.loads((Path(__file__).parent / "data" / "rfc9382.toml").read_text("utf-8"))["vector"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"A={vector['A']},B={vector['B']}")
def test_both_sides(vector: dict[str, str]) -> None:
    """Both sides make the shares, the key and the confirmations of the RFC."""
    password, names = int(vector["w"], 16), {"client": vector["A"].encode(), "server": vector["B"].encode()}
    client = Side(Role.CLIENT, password, scalar=int(vector["x"], 16), **names)
    server = Side(Role.SERVER, password, scalar=int(vector["y"], 16), **names)
    assert (client.share.hex(), server.share.hex()) == (vector["pA"], vector["pB"])
    for agreed, ours, theirs in (
        (client.agree(server.share), vector["A_conf"], vector["B_conf"]),
        (server.agree(client.share), vector["B_conf"], vector["A_conf"]),
    ):
        assert agreed.key.reveal().hex() == vector["Ke"]
        assert (agreed.ours.hex(), agreed.theirs.reveal().hex()) == (ours, theirs)
