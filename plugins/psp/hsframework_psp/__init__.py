"""PSP for hsframework: the key exchange of docs/design/psp-handshake.md.

:mod:`.messages`, :mod:`.exchange` and :mod:`.tunnel` are the protocol without I/O; :mod:`.devices` is what a PSP device
does for it, :mod:`.kernel_device` and :mod:`.software` the two kinds; :mod:`.plugin` is the shell that the agent
drives.
"""

from __future__ import annotations

__version__ = "0.1.0"
