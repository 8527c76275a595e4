"""TLS 1.3 for hsframework.

:mod:`.engine` runs a handshake without I/O, :mod:`.recordlayer` the session after it; :mod:`.plugin` is the shell that
the agent runs, :mod:`.hooks` registers it.
"""

from __future__ import annotations

__version__ = "0.1.0"
