"""QUIC for hsframework (RFC 9000, 9001, 9002, 9369).

:mod:`.handshake` runs a handshake without I/O, :mod:`.plugin` is the shell that the agent runs, :mod:`.hooks` registers
it.  :mod:`.session` is the session that a consumer gets, and :mod:`.consumer` continues it.  :mod:`.port` is for
listeners, :mod:`.kernel` for the kernel's own QUIC sockets.  :mod:`.aioquic_adapter` alone knows aioquic's inside.
"""

from __future__ import annotations

__version__ = "0.1.0"
