"""QUIC for hsframework (RFC 9000, 9001, 9002, 9369).

:mod:`.driver` runs a handshake without I/O, :mod:`.plugin` is the shell that the agent drives, :mod:`.session` is what
a consumer is handed, :mod:`.hooks` what is registered.  :mod:`.aioquic_adapter` alone knows aioquic's inside.
"""

from __future__ import annotations

__version__ = "0.1.0"
