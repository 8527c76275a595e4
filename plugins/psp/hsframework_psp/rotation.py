"""Notices of rotations of the kernel's device key, for consumers: group ``use`` of the family ``psp``.

A notice only wakes the consumer; the device's rotation counter decides, so that a notice that was lost, or came before
we listened, changes nothing.
"""

from __future__ import annotations

import contextlib
import errno

from hsframework.errors import StreamError
from hsframework.netlink.socket import NetlinkError
from hsframework_psp.family import PspFamily
from hsframework_psp.renewal import Renewal, RenewalState


class RotationRenewal(Renewal):
    """The renewal of a session in the kernel.  ``rotations``: the counter of ``device`` when the session was made.

    Make it in a thread in the network namespace of the socket.  Raises StreamError.

    In the namespace of the calling thread, which has to be the socket's.  Raises StreamError.
    """

    def __init__(self, device: int, rotations: int) -> None:
        self._device = device
        self._rotations = rotations
        with contextlib.ExitStack() as stack:
            try:
                self._family = PspFamily()
                stack.callback(self._family.close)
                self._notices = self._family.rotation_notices()
                stack.callback(self._notices.close)
                self._family.statistics(device)
            except NetlinkError as error:
                raise StreamError(
                    f"rotations of PSP device {device} cannot be watched: {error}; attach in the network namespace of "
                    "the socket",
                    errno=error.errno,
                ) from None
            self._resources = stack.pop_all()

    @property
    def family(self) -> PspFamily:
        """The family in the socket's namespace; stays ours."""
        return self._family

    @property
    def state(self) -> RenewalState:
        """The state; STALE also when the device has gone, or counts anew: it is another one then, without our key."""
        self._notices.drain()
        try:
            passed = self._family.statistics(self._device).get("key-rotations", 0) - self._rotations
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return RenewalState.STALE
            raise StreamError(f"the PSP device cannot be asked: {error}", errno=error.errno) from None
        return {0: RenewalState.FRESH, 1: RenewalState.DUE}.get(passed, RenewalState.STALE)

    def fileno(self) -> int:
        return self._notices.fileno()

    def close(self) -> None:
        self._resources.close()
