"""Records of a consumer's connection, for finding faults: its secrets in a key log, its events in a qlog.

The environment says so, as for other programs that speak QUIC: ``SSLKEYLOGFILE`` names a file in the NSS key log
format, to which the 1-RTT secrets are appended; ``QLOGDIR`` a folder, where the connection's qlog is written when it
is closed. The agent's part of the connection is the agent's own to record (``[plugins.quic]``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from aioquic.quic.logger import QuicLogger

from hsframework_quic.logs import KeyLog, QlogFolder
from hsframework_quic.session import QuicSession

KEY_LOG, QLOG_FOLDER = "SSLKEYLOGFILE", "QLOGDIR"


class Recording:
    """The records of one connection.  Raises ConfigurationError for places that cannot be written to."""

    def __init__(self, session: QuicSession, environment: Mapping[str, str] = os.environ) -> None:
        if path := environment.get(KEY_LOG):
            _write_secrets(session, Path(path))
        folder = environment.get(QLOG_FOLDER)
        self._folder = QlogFolder(Path(folder), QLOG_FOLDER) if folder else None
        self._name = f"{session.original_destination_connection_id.hex()}-{session.role.name.lower()}"
        self.logger = None if self._folder is None else QuicLogger()

    def finish(self) -> None:
        """Write the qlog, once the connection has been closed."""
        folder, self._folder = self._folder, None
        if folder is not None and self.logger is not None:
            folder.write(self.logger, self._name)
            folder.close()


def _write_secrets(session: QuicSession, path: Path) -> None:
    """Write the secrets of the first key phase; the log has no labels for later ones.

    Those of later ones follow from them (RFC 9001 section 6).
    """
    if session.key_phase:
        return
    log = KeyLog(path, KEY_LOG)
    for side, secret in (("CLIENT", session.client_secret), ("SERVER", session.server_secret)):
        log.write(f"{side}_TRAFFIC_SECRET_0 {session.client_random.hex()} {secret.reveal().hex()}\n")
    log.close()
