"""What ties the exchange to its TLS session: the exporter and the two proofs (RFC 8446 section 7.5).  Sans-IO."""

from __future__ import annotations

from hsframework.interface import Role, Secret
from hsframework_psp.messages import PROOF_SIZE
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.keyschedule import export_keying_material

LABELS = {Role.CLIENT: b"EXPORTER-psp-kx client proof", Role.SERVER: b"EXPORTER-psp-kx server proof"}


class Binding:
    """The exporter of one TLS session."""

    def __init__(self, suite: CipherSuite, exporter_secret: Secret) -> None:
        self._suite = suite
        self._secret = exporter_secret

    def proof(self, sender: Role, transcript: bytes) -> bytes:
        """32 bytes; ``transcript``: OFFER, ANSWER and KEYS, whole."""
        return export_keying_material(self._suite, self._secret.reveal(), LABELS[sender], transcript, PROOF_SIZE)
