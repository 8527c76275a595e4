"""The tie between the exchange and its TLS session: the exporter and the two proofs (RFC 8446 section 7.5).

Sans-IO.
"""

from __future__ import annotations

from hsframework.interface import Role, Secret
from hsframework_psp.messages import PROOF_SIZE
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.keyschedule import export_keying_material

LABEL = b"EXPORTER-psp-kx proof"


class Binding:
    """The exporter of one TLS session."""

    def __init__(self, suite: CipherSuite, exporter_secret: Secret) -> None:
        self._suite = suite
        self._secret = exporter_secret

    def proofs(self, transcript: bytes) -> dict[Role, bytes]:
        """Return the proofs by their sender, 32 bytes each; ``transcript``: OFFER, ANSWER and KEYS, whole."""
        both = export_keying_material(self._suite, self._secret.reveal(), LABEL, transcript, 2 * PROOF_SIZE)
        return {Role.CLIENT: both[:PROOF_SIZE], Role.SERVER: both[PROOF_SIZE:]}
