"""The gate of a listening port: admission, Version Negotiation, Retry or refusal, with no state for each client.

No datagram below 1200 bytes is answered (RFC 9000 section 14.1), and every answer is far smaller than the datagram, so
that nobody is flooded through us (section 8.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aioquic.quic.packet import encode_quic_retry, encode_quic_version_negotiation

from hsframework.interface import AddressValidation, Admission
from hsframework_quic.aioquic_adapter.stateless import encode_close
from hsframework_quic.headers import MIN_FIRST_DATAGRAM, Initial, initial, long_header
from hsframework_quic.port.retry import BadToken, RetryTokens
from hsframework_quic.session import VERSION_1, VERSION_2

INVALID_TOKEN = 0x0B
VERSIONS = (VERSION_1, VERSION_2)

_RESERVED_VERSION = 0x1A2A3A4A
"""Named beside the real ones, so that clients learn to skip what they do not know (RFC 9000 section 15)."""
_RETRY_ID = 8


class QuicGate:
    """The gate for clients of QUIC.  Implements :class:`hsframework.interface.Gate`.

    ``random``: returns so many unpredictable bytes.
    """

    def __init__(self, validation: AddressValidation, random: Callable[[int], bytes]) -> None:
        self._validation = validation
        self._random = random
        self._tokens = RetryTokens(random)

    def judge(self, datagram: bytes, address: str, *, now: float, busy: bool) -> Admission | bytes | None:
        """Return an admission, an answer, or None: silence."""
        header = long_header(datagram)
        if header is None or len(datagram) < MIN_FIRST_DATAGRAM or header.version == 0:
            return None
        if header.version not in VERSIONS:
            return encode_quic_version_negotiation(
                source_cid=header.destination,
                destination_cid=header.source,
                supported_versions=[*VERSIONS, _RESERVED_VERSION],
            )
        first = initial(header)
        return None if first is None else self._judge_initial(first, address, now, busy)

    def belongs(self, admission: Admission, datagram: bytes) -> bool:
        """Return True if the datagram has the admission's connection id as its destination.

        A client uses the one it made up until it has received the server's.
        """
        header = long_header(datagram)
        return header is not None and header.destination == admission.connection

    def attributes(self, admission: Admission, datagrams: Sequence[bytes]) -> Mapping[str, Any]:
        """Return the values of attribute set ``request`` of ``specs/quic.yaml``."""
        return {**admission.attributes, "datagram": tuple(datagrams)}

    def _judge_initial(self, first: Initial, address: str, now: float, busy: bool) -> Admission | bytes:
        try:
            validated = self._tokens.check(first.token, address, first.destination, now)
        except BadToken:
            # It would take no second Retry: tell it at once (RFC 9000 section 8.1.2).
            return encode_close(first.version, first.destination, first.source, INVALID_TOKEN)
        if validated is not None:
            return Admission(
                first.destination,
                {
                    "original-destination-connection-id": validated.original,
                    "retry-source-connection-id": validated.retry,
                    "address-validated": True,
                },
            )
        if self._validation is AddressValidation.ALWAYS or (busy and self._validation is AddressValidation.UNDER_LOAD):
            return self._retry(first, address, now)
        return Admission(first.destination)

    def _retry(self, first: Initial, address: str, now: float) -> bytes:
        source = self._random(_RETRY_ID)
        return encode_quic_retry(
            version=first.version,
            source_cid=source,
            destination_cid=first.source,
            original_destination_cid=first.destination,
            retry_token=self._tokens.make(address, first.destination, source, now),
        )
