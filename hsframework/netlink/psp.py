"""Does a socket send under the kernel's PSP (generic netlink family ``psp``, Linux 6.18)?

The kernel has no question for that, but it refuses a second Tx association, before anything else that it would refuse
one for, and in words of its own.  The question is not harmless: a socket that has an Rx association alone gets a Tx
association under a key that nobody has.  So it is asked only where such a socket is given up: of one that is said to
be protected.  And it loads no module: who asks may be the dispatcher, which must not wait for modprobe.
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
"""By version: AES-GCM-128 and -256, AES-GMAC-128 and -256."""
_NOBODYS_SPI = 0x7FFFFFFF
_HAS_ONE = "Tx key already set"
# Read now: later every file may be out of reach.
_SPECIFICATION = builtin_specification("psp")
builtin_specification("nlctrl")


def has_tx_association(error: HsframeworkError) -> bool:
    """Of a refused ``tx-assoc``: because there is one.  EBUSY alone also says that plain data waits in the socket."""
    return error.errno == errno.EBUSY and _HAS_ONE in str(error)


def sends_protected(sock: RequestSocket, fd: int) -> bool:
    """``sock``: generic netlink in the namespace of the socket ``fd``.  Raises NetlinkError; False where no PSP is."""
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
    key = {"key": Secret(os.urandom(KEY_SIZES[version])), "spi": _NOBODYS_SPI}
    values = {"dev-id": device, "version": version, "tx-key": key, "sock-fd": fd}
    try:
        sock.request(codec, "tx-assoc", values, acknowledge=True)
    except NetlinkError as error:
        return has_tx_association(error)
    return False
