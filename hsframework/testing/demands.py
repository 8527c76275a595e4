"""Checks of the demands that a protocol has declared: a handshake that cannot keep to one fails."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from hsframework.client.request import HandshakeOptions
from hsframework.interface import CertificateDemand, Demand, Role
from hsframework.testing.certificates import Authority
from hsframework.testing.scenario import Pair
from hsframework.testing.stage import Stage
from hsframework.testing.verdicts import ConformanceFailure

_NOBODY = "nobody.conformance.invalid"
_TWO_PROTOCOLS = ("conformance-one",), ("conformance-two",)


async def must_keep_to_demands(stage: Stage) -> None:
    """Run pairs that demand what their peer cannot give, one for each demand that the protocol understands.

    Raises ConformanceFailure for an end that succeeds although its demand is not met.
    """
    registry = stage.scenario.registry()
    protocol = registry.protocols[stage.scenario.protocol_name(registry)].protocol
    for demand, role, pair in _unmet(*stage.pair, protocol.understands):
        if demand not in protocol.understands:
            continue
        ended = await stage.handshake(pair)
        outcome = ended.client if role is Role.CLIENT else ended.server
        if outcome is not None and outcome.ok:
            raise ConformanceFailure(
                f"understands has {demand.name}, and a {role.name.lower()} whose peer does not meet that succeeds",
                f"keep to the request's {_FIELDS[demand]}, or take Demand.{demand.name} out of understands",
            )


_FIELDS = {
    Demand.ALPN: "alpn",
    Demand.CLIENT_CERTIFICATE: "client_certificate",
    Demand.PEER_NAME: "peer_name",
    Demand.TRUST: "trust",
}


def _unmet(
    client: HandshakeOptions, server: HandshakeOptions, understood: Collection[Demand]
) -> Iterator[tuple[Demand, Role, Pair]]:
    """Yield a demand, the role of the end whose demand is not met, and a pair."""
    one, two = _TWO_PROTOCOLS
    yield Demand.ALPN, Role.CLIENT, (replace(client, alpn=one), replace(server, alpn=two))
    if client.psks or server.psks:
        return  # with a pre-shared key there is no certificate to judge
    strange = Authority().trust()
    yield Demand.TRUST, Role.CLIENT, (replace(client, trust=strange, any_peer_name=True), server)
    yield Demand.PEER_NAME, Role.CLIENT, (replace(client, peer_name=_NOBODY, any_peer_name=False), server)
    judging = (server.trust or strange) if Demand.TRUST in understood else None
    demanding = replace(server, client_certificate=CertificateDemand.REQUIRE, trust=judging)
    yield Demand.CLIENT_CERTIFICATE, Role.SERVER, (replace(client, identities=(), auth_mode=None), demanding)
