"""PSP for hsframework: the key exchange of docs/design/psp-handshake.md.

:mod:`.messages`, :mod:`.exchange` and :mod:`.tunnel` are the protocol without I/O; :mod:`.devices` is the interface of
a PSP device, :mod:`.kernel_device` and :mod:`.packet_device` are the two kinds; :mod:`.plugin` is the shell that the
agent runs, :mod:`.hooks` registers it.
"""

from __future__ import annotations

__version__ = "0.1.0"
