"""The source of requests from the kernel: the ``handshake`` generic netlink family, in one network namespace.

Rules:

* A group is joined while an agent serves it, so that the kernel's own answer to "does anybody listen" stays true.  The
  queue outlives the membership: after joining and after leaving, ACCEPT is tried once more.
* READY arrives on a socket of its own, which is emptied before each round of ACCEPT.
* ACCEPT goes on until EAGAIN, or until the dispatcher is full: then the kernel's queue is the back-pressure.  An ACCEPT
  that fails with anything else has cost one request its life; the next one waits a little.
* What ACCEPT gave is completed by DONE in every case: a request that cannot be taken at once.
* The sockets belong to the namespace in which they were made.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from hsframework.config import Configuration
from hsframework.dispatcher.core import Dispatcher
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keyring import KernelKeys
from hsframework.dispatcher.namespaces import network_namespace, which
from hsframework.dispatcher.requests import Outcome, PendingRequest, no_key
from hsframework.dispatcher.vault import Credentials, Vault, request_values
from hsframework.errors import HsframeworkError, RequestRefused
from hsframework.interface import AuthMode, CertificateDemand, Identity, PresharedKey, Role
from hsframework.netlink.control import accepted_attributes, find_family
from hsframework.netlink.messages import MessageCodec
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, NotificationSocket, RequestSocket
from hsframework.netlink.spec import builtin_specification

HANDLER_CLASSES = {"tlshd": 1}
"""The handler class of each of the kernel's groups."""

RETRIED = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.EAGAIN})
"""A connection that broke is ETIMEDOUT to the kernel: NFS retries that one, and gives up on all others."""

ACCEPT_PAUSE = 0.05
"""Seconds until ACCEPT is tried again after one that failed for anything but an empty queue."""

NAMESPACE_INTERVAL = 0.5
"""Seconds between two looks at which namespaces there are."""

CLIENT_PROFILE, SERVER_PROFILE = "kernel-client", "kernel-server"
SUNRPC_ALPN = ("sunrpc",)
"""RFC 9289 section 4.1; requests with certificates are sunrpc's, those with pre-shared keys NVMe's."""

_log = structlog.get_logger("hsframework.dispatcher")


class KernelRequest(PendingRequest):
    """A request of the kernel's."""

    __slots__ = ("keyring", "serials")
    serials: dict[bytes, int]
    """Of its pre-shared keys, by identity."""
    keyring: int | None


class KernelSource:
    """One network namespace.  A :class:`~hsframework.dispatcher.requests.Source`.

    Raises NetlinkError: EOPNOTSUPP where the kernel has no such family.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        vault: Vault,
        keys: KernelKeys,
        configuration: Configuration,
        *,
        name: str = "kernel",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = name
        self._dispatcher = dispatcher
        self._vault = vault
        self._keys = keys
        self._configuration = configuration
        self._loop = loop
        self._requests = RequestSocket(NETLINK_GENERIC)
        specification = builtin_specification("handshake")
        family = find_family(self._requests, specification.name)
        if family is None:
            self._requests.close()
            raise NetlinkError(
                "this kernel has no handshake family (Linux 6.4, CONFIG_NET_HANDSHAKE)", errno=errno.EOPNOTSUPP
            )
        self._family = family
        self._codec = MessageCodec(specification, message_type=family.number, lenient=True)
        self._done_takes = accepted_attributes(self._requests, family, specification, "done")
        self._notifications = NotificationSocket(NETLINK_GENERIC)
        self._joined: set[str] = set()
        self._pending = 0
        self._retired = self._closed = False
        loop.add_reader(self._notifications.fileno(), self._announced)
        dispatcher.add_source(self)

    # A Source

    def group_opened(self, group: str) -> None:
        """An agent serves the group: join it, and take what waits."""
        number = self._family.groups.get(group)
        if number is None or group not in HANDLER_CLASSES or group in self._joined or self._retired:
            return
        self._notifications.join(number)
        self._joined.add(group)
        _log.info("joined the kernel's group", group=group, source=self.name)
        self._accept(group)

    def group_closed(self, group: str) -> None:
        """No agent is left: leave it, and refuse what waits."""
        if group in self._joined:
            self._joined.discard(group)
            self._notifications.leave(self._family.groups[group])
            _log.info("left the kernel's group", group=group, source=self.name)
            self._accept(group)

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        """DONE."""
        assert isinstance(request, KernelRequest)
        serial, added = self._peer_serial(request, outcome)
        try:
            self._done(request.custody.fileno(), outcome.status, serial)
        finally:
            if added and serial is not None:
                self._keys.remove(serial)
            self._keys.forget(request.keyring)
            self._dispatcher.acknowledged(request)
            self._pending -= 1
            self._close_when_idle()

    def restored(self, custody: Custody, values: Mapping[str, Any]) -> None:
        """DONE works from any process on its own copy, so a new dispatcher completes what the old one had taken."""
        custody.shut_down()
        self._done(custody.fileno(), errno.EIO, None)
        custody.release()

    def room_made(self) -> None:
        """The dispatcher was full and is not any more."""
        for group in () if self._closed else tuple(self._joined):
            self._accept(group)

    def retire(self) -> None:
        """The namespace is gone: take no more, and close when what was taken is completed."""
        self._retired = True
        for group in tuple(self._joined):
            self.group_closed(group)
        self._close_when_idle()

    def close(self) -> None:
        """Leave every group and close the sockets."""
        if self._closed:
            return
        self._closed = True
        self._dispatcher.remove_source(self)
        self._loop.remove_reader(self._notifications.fileno())
        self._notifications.close()
        self._requests.close()

    def _close_when_idle(self) -> None:
        if self._retired and not self._pending:
            self._loop.call_soon(self.close)

    # ACCEPT

    def _announced(self) -> None:
        self._notifications.drain()
        for group in tuple(self._joined):
            self._accept(group)

    def _accept(self, group: str) -> None:
        while self._dispatcher.has_room(self):
            try:
                answers = self._requests.request(self._codec, "accept", {"handler-class": HANDLER_CLASSES[group]})
            except NetlinkError as error:
                if error.errno == errno.EAGAIN:
                    return
                _log.error("ACCEPT failed, and perhaps a request with it", source=self.name, error=str(error))
                # Not at once again: without an fd each would cost one more request, others may go on for ever.
                self._loop.call_later(ACCEPT_PAUSE, self.room_made)
                return
            for answer in answers:
                self._take(group, answer.values)

    def _take(self, group: str, values: Mapping[str, Any]) -> None:
        """Take one request; when that fails, it is completed at once."""
        fd = values.get("sockfd", -1)
        if fd < 0:
            _log.error("ACCEPT brought no socket", source=self.name)
            return
        custody = self._dispatcher.take_socket(fd, trusted=True, connected=False)
        self._keys.hold(values.get("keyring"))
        try:
            if not custody.peer_host:
                raise RequestRefused("the connection has ended", errno=errno.ENOTCONN)
            if self._retired:
                raise RequestRefused("the namespace is gone", errno=errno.EIO)
            request = self._request(group, values, custody)
            self._dispatcher.submit(request)
            self._pending += 1
            if request.psk_lookup is no_key:
                self._keys.forget(request.keyring)
                request.keyring = None
            return
        except HsframeworkError as error:
            # That nobody listens is no answer to somebody who was listened to.
            status = errno.EIO if error.errno == errno.ESRCH else error.errno
            _log.warning("a request of the kernel's is refused", source=self.name, error=str(error))
        except Exception as error:
            status = errno.EIO
            _log.error("a fault in the dispatcher", error=repr(error), during=f"a request of {self.name}")
        self._done(custody.fileno(), status, None)
        custody.release()
        self._keys.forget(values.get("keyring"))

    def _request(self, group: str, values: Mapping[str, Any], custody: Custody) -> KernelRequest:
        try:
            role, auth_mode = Role(values.get("message-type", 0)), AuthMode(values.get("auth-mode", 0))
        except ValueError:
            raise RequestRefused("a request of an unknown kind", errno=errno.EOPNOTSUPP) from None
        psks = self._named_psks(values) if auth_mode is AuthMode.PSK else {}
        given = self._credentials(role, auth_mode, values, tuple(psk for psk, _ in psks.values()))
        agent_values = request_values(role, auth_mode, given)
        agent_values["kernel-consumer"] = True
        if role is Role.CLIENT and values.get("peername"):
            agent_values["peername"] = values["peername"]
        keyring = values.get("keyring")
        request = KernelRequest(
            source=self,
            consumer=self.name,
            group=group,
            custody=custody,
            timeout=self._timeout(values, role),
            values=agent_values,
            trust=given.trust,
            kernel_consumer=True,
        )
        request.serials = {identity: serial for identity, (_, serial) in psks.items()}
        request.keyring = keyring
        if auth_mode is AuthMode.PSK and role is Role.SERVER:
            request.psk_lookup = partial(self._look_up, request)
        return request

    def _credentials(
        self, role: Role, auth_mode: AuthMode, values: Mapping[str, Any], psks: tuple[PresharedKey, ...]
    ) -> Credentials:
        """What the request names by serial, and the profile's where it names nothing."""
        settings = self._configuration.kernel
        wanted = settings.client_profile if role is Role.CLIENT else settings.server_profile
        default = CLIENT_PROFILE if role is Role.CLIENT else SERVER_PROFILE
        name = wanted or (default if default in self._configuration.profiles else None)
        given = self._vault.resolve(name, {})
        if name is None:
            given = replace(given, trust=self._vault.system_trust if role is Role.CLIENT else None)
        identities: tuple[Identity, ...] = ()
        if auth_mode is AuthMode.X509:
            identities = tuple(
                self._keys.identity(item["cert"], item["privkey"])
                for item in values.get("certificate", ())
                if item.get("cert") and item.get("privkey")
            )
        demand = given.client_certificate
        if role is Role.SERVER and name is not None and given.trust is not None and demand is CertificateDemand.NONE:
            demand = CertificateDemand.REQUEST
        return replace(
            given,
            identities=identities or given.identities,
            psks=psks,
            client_certificate=demand,
            alpn=() if auth_mode is AuthMode.PSK else given.alpn or SUNRPC_ALPN,
        )

    def _named_psks(self, values: Mapping[str, Any]) -> dict[bytes, tuple[PresharedKey, int]]:
        """The keys whose serials the request names, by identity; a serial of 0 stands for none."""
        found = {}
        for serial in values.get("peer-identity", ()):
            if serial:
                psk = self._keys.psk(serial)
                found[psk.identity] = psk, serial
        return found

    def _look_up(self, request: KernelRequest, identity: bytes) -> PresharedKey | None:
        found = self._keys.find_psk(identity, request.keyring)
        if found is None:
            return None
        psk, request.serials[identity] = found
        return psk

    def _timeout(self, values: Mapping[str, Any], role: Role) -> float:
        timeouts = self._configuration.timeouts
        asked = values.get("timeout", 0) / 1000
        return min(asked, timeouts.maximum) if asked else timeouts.client if role is Role.CLIENT else timeouts.server

    # DONE

    def _peer_serial(self, request: KernelRequest, outcome: Outcome) -> tuple[int | None, bool]:
        """The key that tells the kernel who the peer is, and whether it was made for this."""
        if outcome.status:
            return None, False
        identity = outcome.values.get("remote-psk-identity")
        if identity is not None:
            return request.serials.get(identity), False
        certificates = outcome.values.get("remote-certificate")
        if certificates:
            return self._keys.add_certificate(certificates[0]), True
        return None, False

    def _done(self, fd: int, status: int, peer: int | None) -> None:
        values = {
            "status": errno.ETIMEDOUT if status in RETRIED else status,
            "sockfd": fd,
            "remote-auth": [] if peer is None else [peer],
        }
        accepted = {name: value for name, value in values.items() if name in self._done_takes}
        try:
            self._requests.request(self._codec, "done", accepted, acknowledge=True)
        except HsframeworkError as error:
            _log.error("DONE is refused", source=self.name, status=status, error=str(error))


class KernelSources:
    """A source for our own network namespace and one for each that is configured, for as long as it is there.

    None where the kernel has no such family or would not let us serve it: then no agent seems to listen.  Made in the
    main thread, before any other is started.
    """

    def __init__(
        self, dispatcher: Dispatcher, vault: Vault, configuration: Configuration, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._own: KernelSource | None = None
        self._further: dict[str, tuple[tuple[int, int], KernelSource | None]] = {}
        """By name: which namespace it is, and its source; None: it cannot be served."""
        self._timer: asyncio.TimerHandle | None = None
        settings = configuration.kernel
        if not settings.enabled or not _served():
            return
        keys = KernelKeys(settings.keyrings)
        self._open = partial(KernelSource, dispatcher, vault, keys, configuration, loop=loop)
        self._namespaces = settings.namespaces
        self._own = self._open()
        if self._namespaces:
            self._look()

    def close(self) -> None:
        """Leave every group and close every socket."""
        if self._timer is not None:
            self._timer.cancel()
        for source in (self._own, *(source for _, source in self._further.values())):
            if source is not None:
                source.close()

    def _look(self) -> None:
        """Namespaces come and go without a word; and one that is gone lives on while we have sockets in it."""
        self._timer = self._loop.call_later(NAMESPACE_INTERVAL, self._look)
        for name in self._namespaces:
            there, known = which(name), self._further.get(name)
            if known is not None and known[0] != there:
                del self._further[name]
                _log.info("a network namespace is gone", namespace=name)
                if known[1] is not None:
                    known[1].retire()
            if there is not None and name not in self._further:
                self._further[name] = there, self._enter(name)

    def _enter(self, name: str) -> KernelSource | None:
        try:
            with network_namespace(name):
                return self._open(name=f"kernel:{name}")
        except (HsframeworkError, OSError) as error:
            _log.error("a network namespace cannot be served", namespace=name, reason=str(error))
            return None


def _served() -> bool:
    """May we?  Anybody can join the group, and the kernel believes then that an agent listens."""
    try:
        sock = RequestSocket(NETLINK_GENERIC)
    except NetlinkError as error:
        _log.info("no requests of the kernel's are taken", reason=str(error))
        return False
    try:
        family = find_family(sock, "handshake")
        if family is None:
            _log.info("no requests of the kernel's are taken", reason="this kernel has no handshake family")
            return False
        codec = MessageCodec(builtin_specification("handshake"), message_type=family.number, lenient=True)
        # The class none: no consumer asks in it, so that no request is taken.
        sock.request(codec, "accept", {"handler-class": 0})
    except NetlinkError as error:
        if error.errno == errno.EPERM:
            _log.warning(
                "no requests of the kernel's are taken",
                reason="CAP_NET_ADMIN in the initial user namespace is missing; start as root",
            )
        return error.errno != errno.EPERM
    finally:
        sock.close()
    return True
