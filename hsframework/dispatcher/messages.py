"""Messages of the local family, as the dispatcher sends them; above all the parameters of a request for its agent.

The specification's reply to ``accept`` lists every attribute that an agent gets of a request.  Each comes from one of:

* the moment at which the request is handed over (:data:`MOMENT`),
* the credentials that the request is given (:data:`CREDENTIALS`),
* the source of the request (:data:`SOURCE`),
* the consumer: any other attribute that ``submit`` has too is passed on as it came.

So an attribute that is new in both lists reaches agents without a line of code, from every source and in
:mod:`hsframework.testing.dispatcher`.  One that is new in the reply alone, with no place here, fails the import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.dispatcher.keys.vault import Credentials
from hsframework.errors import ConfigurationError
from hsframework.interface import AuthMode, Demand, PresharedKey, Role
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import MessageCodec
from hsframework.netlink.spec import Specification, builtin_specification

MOMENT = frozenset(("request-id", "timeout", "local-address", "peer-address", "trust-id", "trace"))
CREDENTIALS = frozenset(
    ("message-type", "auth-mode", "identity", "psk", "client-certificate", "alpn", "tls-priorities")
)
SOURCE = frozenset(("user", "source", "kernel-consumer", "dialect"))

_specification = builtin_specification("local")
_attributes = attribute_codec(_specification, _specification.operations["accept"].attribute_set)
codec = MessageCodec(_specification, message_type=LOCAL_MESSAGE_TYPE, receives=("request",))
"""Of the dispatcher's side, which receives requests and sends replies and events."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Encoded attributes of the reply to ACCEPT that are the same for every socket of a submission."""

    own: bytes = field(repr=False)
    given: bytes = field(repr=False)
    """Of the credentials, and one object for all requests that share these."""
    auth_mode: int = AuthMode.OWN.value
    """Mode that its agent must have."""
    demands: frozenset[str] = frozenset()
    """Demands that its agent must understand, by their names in JOIN."""


def passed_on(specification: Specification) -> tuple[str, ...]:
    """Return the attributes of ``submit`` that go to the agent as they came.

    Raises ConfigurationError for an attribute of the reply to ``accept`` that comes from nowhere.
    """
    accept = specification.operations["accept"]
    reply, submit = accept.reply or frozenset(), specification.operations["submit"].request or frozenset()
    from_here = MOMENT | CREDENTIALS | SOURCE
    nowhere = reply - from_here - submit
    if nowhere:
        raise ConfigurationError(f"the reply to accept: {', '.join(sorted(nowhere))}: nothing supplies it")
    names = specification.sets[accept.attribute_set].attributes
    return tuple(name for name in names if name in (reply & submit) - from_here)


_PASSED_ON = passed_on(_specification)


def parameters(
    asked: Mapping[str, Any],
    given: Credentials,
    role: Role,
    auth_mode: AuthMode,
    *,
    source: str,
    user: int | None = None,
    kernel_consumer: bool = False,
    dialect: str = "",
) -> Parameters:
    """Encode the parameters of a request, for its agent.

    ``asked``: attribute set ``request`` of the submit, with the profile that the request is given.  ``source``: the
    name of its source.  ``user``: the consumer's user id, for one in user space.  ``dialect``: that of the kernel's
    form, if it has any.  Raises MessageError.
    """
    own = {name: asked[name] for name in _PASSED_ON if name in asked}
    own["user"] = user
    own["source"] = source
    own["kernel-consumer"] = kernel_consumer
    own["dialect"] = dialect or None
    demands = _demands(asked, given, role)
    return Parameters(_attributes.encode(own), _encoded_credentials(given, role, auth_mode), int(auth_mode), demands)


def _demands(asked: Mapping[str, Any], given: Credentials, role: Role) -> frozenset[str]:
    """Return what is demanded of the handshake, which an agent that does not understand it would pass over."""
    found = set[str]()
    if given.alpn:
        found.add(Demand.ALPN)
    if given.client_certificate:
        found.add(Demand.CLIENT_CERTIFICATE)
    if role is Role.CLIENT and asked.get("peername") is not None and "any-peer-name" not in asked:
        found.add(Demand.PEER_NAME)
    if given.tls_priorities:
        found.add(Demand.TLS_POLICIES)
    if (given.trust is not None and not given.trust_by_default) or "trust-id" in asked:
        found.add(Demand.TRUST)
    return frozenset(found)


def accept_reply(
    shared: Parameters,
    *,
    sequence: int,
    request_id: int,
    milliseconds: int,
    local_address: str | None = None,
    peer_address: str | None = None,
    trust_id: int | None = None,
    trace: bool = False,
) -> bytes:
    """Encode the reply to the ACCEPT with this sequence number; the request's socket goes with it.

    ``milliseconds``: the time that the agent has.  Raises MessageError.
    """
    values = {
        "request-id": request_id,
        "timeout": milliseconds,
        "local-address": local_address,
        "peer-address": peer_address,
        "trust-id": trust_id,
        "trace": trace or None,
    }
    return codec.encode("accept", values, sequence=sequence, encoded=shared.own + shared.given)


def psk_values(psk: PresharedKey) -> dict[str, Any]:
    """Return a key as the attribute set ``psk``."""
    return {"identity": psk.identity, "key": psk.key, "hash": psk.hash}


def _encoded_credentials(given: Credentials, role: Role, auth_mode: AuthMode) -> bytes:
    """Return identities, a client's keys (a server's are looked up) and choices, encoded once for a profile."""
    found = given.encoded.get((role, auth_mode))
    if found is None:
        values: dict[str, Any] = {"message-type": int(role), "auth-mode": int(auth_mode)}
        if auth_mode is AuthMode.X509:
            values["identity"] = [
                {"certificate": identity.chain, "private-key": identity.private_key} for identity in given.identities
            ]
        elif auth_mode is AuthMode.PSK and role is Role.CLIENT:
            values["psk"] = [psk_values(psk) for psk in given.psks]
        values["client-certificate"] = int(given.client_certificate)
        values["alpn"] = given.alpn
        values["tls-priorities"] = given.tls_priorities
        found = given.encoded[role, auth_mode] = _attributes.encode(values)
    return found
