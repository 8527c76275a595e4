"""Check of a socket's protection by the kernel's PSP (generic netlink family ``psp``, Linux 6.18).

The kernel cannot be asked for a socket's associations.  But it refuses a second Tx association, before all its other
reasons to refuse one, and with a text of its own.  The check has a side effect: a socket without a Tx association gets
one, under a key that nobody has.  So it is made only for a socket that is reported to be protected, and that is given
up if it is not.  It loads no module, because the dispatcher calls it and must not wait for modprobe.
"""

from __future__ import annotations

import errno
import os

from hsframework.errors import HsframeworkError
from hsframework.interface import Secret
from hsframework.netlink.control import loaded_family
from hsframework.netlink.kernel_codec import KernelCodec
from hsframework.netlink.socket import NetlinkError, RequestSocket
from hsframework.netlink.spec import builtin_specification

KEY_SIZES = (16, 32, 16, 32)
"""Bytes of a key, by version: AES-GCM-128 and -256, AES-GMAC-128 and -256."""
_UNUSED_SPI = 0x7FFFFFFF
_HAS_TX_KEY = "Tx key already set"
# Read now: later the filesystem may not be available.
_SPECIFICATION = builtin_specification("psp")
builtin_specification("nlctrl")


def has_tx_association(error: HsframeworkError) -> bool:
    """Return True if ``tx-assoc`` was refused because the socket has a Tx association.

    EBUSY without the text means that plain data waits in the socket.
    """
    return error.errno == errno.EBUSY and _HAS_TX_KEY in str(error)


def sends_protected(sock: RequestSocket, fd: int) -> bool:
    """Return True if the socket ``fd`` has a Tx association; False also if the kernel has no PSP.

    ``sock``: generic netlink in the network namespace of the socket.  Raises NetlinkError.
    """
    family = loaded_family(sock, "psp")
    if family is None:
        return False
    codec = KernelCodec(_SPECIFICATION, message_type=family.number)
    return any(
        _refuses_another(sock, codec, device.values["id"], version, fd)
        for device in sock.dump(codec, "dev-get", {})
        for version in range(len(KEY_SIZES))
        if device.values.get("psp-versions-cap", 0) >> version & 1
    )


def _refuses_another(sock: RequestSocket, codec: KernelCodec, device: int, version: int, fd: int) -> bool:
    key = {"key": Secret(os.urandom(KEY_SIZES[version])), "spi": _UNUSED_SPI}
    values = {"dev-id": device, "version": version, "tx-key": key, "sock-fd": fd}
    try:
        sock.request(codec, "tx-assoc", values, acknowledge=True)
    except NetlinkError as error:
        return has_tx_association(error)
    return False
