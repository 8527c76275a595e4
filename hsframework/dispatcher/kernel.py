"""The source of requests from the kernel: the ``handshake`` generic netlink family, in one network namespace.

Rules:

* A group is joined while an agent serves it, so that the kernel's own answer to "does anybody listen" stays true.  The
  queue outlives the membership: after joining and after leaving, ACCEPT is tried once more.
* READY arrives on a socket of its own, which is emptied before each round of ACCEPT.
* ACCEPT goes on until EAGAIN, or until the dispatcher is full: then the kernel's queue is the back-pressure.  An ACCEPT
  that fails with anything else has cost one request its life, and the next one works.
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
from hsframework.dispatcher.namespaces import network_namespace
from hsframework.dispatcher.requests import Outcome, PendingRequest
from hsframework.dispatcher.vault import Credentials, Vault, request_values
from hsframework.errors import HsframeworkError, RequestRefused
from hsframework.interface import AuthMode, CertificateDemand, Identity, PresharedKey, Role
from hsframework.netlink.control import accepted_attributes, find_family
from hsframework.netlink.messages import MessageCodec
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, NotificationSocket, RequestSocket
from hsframework.netlink.spec import builtin_specification

HANDLER_CLASSES = {"tlshd": 1}
"""The handler class of each of the kernel's groups."""

RETRIED = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})
"""A connection that broke is ETIMEDOUT to the kernel: NFS retries that one, and gives up on all others."""

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
        loop.add_reader(self._notifications.fileno(), self._announced)
        dispatcher.add_source(self)

    # A Source

    def group_opened(self, group: str) -> None:
        """An agent serves the group: join it, and take what waits."""
        number = self._family.groups.get(group)
        if number is None or group not in HANDLER_CLASSES:
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

    def restored(self, custody: Custody, values: Mapping[str, Any]) -> None:
        """DONE works from any process on its own copy, so a new dispatcher completes what the old one had taken."""
        custody.shut_down()
        self._done(custody.fileno(), errno.EIO, None)
        custody.release()

    def room_made(self) -> None:
        """The dispatcher was full and is not any more."""
        for group in tuple(self._joined):
            self._accept(group)

    def close(self) -> None:
        """Leave every group and close the sockets."""
        self._loop.remove_reader(self._notifications.fileno())
        self._notifications.close()
        self._requests.close()

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
                _log.error("ACCEPT failed, and a request with it", source=self.name, error=str(error))
                if error.errno in (errno.EPERM, errno.ENOENT, errno.ETIMEDOUT):
                    return
                continue
            for answer in answers:
                self._take(group, answer.values)

    def _take(self, group: str, values: Mapping[str, Any]) -> None:
        """Take one request; when that fails, it is completed at once."""
        fd = values.get("sockfd", -1)
        if fd < 0:
            _log.error("ACCEPT brought no socket", source=self.name)
            return
        custody: Custody | None = None
        try:
            custody = self._dispatcher.take_socket(fd, trusted=True)
            self._dispatcher.submit(self._request(group, values, custody))
        except HsframeworkError as error:
            _log.warning("a request of the kernel's is refused", source=self.name, error=str(error))
            if custody is not None:
                self._done(custody.fileno(), error.errno, None)
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
        except NetlinkError as error:
            _log.error("DONE is refused", source=self.name, status=status, error=str(error))


def open_kernel_sources(
    dispatcher: Dispatcher, vault: Vault, configuration: Configuration, *, loop: asyncio.AbstractEventLoop
) -> list[KernelSource]:
    """A source for our own network namespace and one for each that is configured; none where the kernel has no family.

    In the main thread, before any other is started.  Raises ConfigurationError for a namespace that cannot be entered.
    """
    settings = configuration.kernel
    if not settings.enabled or not _has_family():
        return []
    keys = KernelKeys(settings.keyrings)
    sources = [KernelSource(dispatcher, vault, keys, configuration, loop=loop)]
    for namespace in settings.namespaces:
        with network_namespace(namespace):
            name = f"kernel:{namespace}"
            sources.append(KernelSource(dispatcher, vault, keys, configuration, name=name, loop=loop))
    return sources


def _has_family() -> bool:
    try:
        sock = RequestSocket(NETLINK_GENERIC)
    except NetlinkError as error:
        _log.info("no requests of the kernel's are taken", reason=str(error))
        return False
    try:
        found = find_family(sock, "handshake") is not None
    finally:
        sock.close()
    if not found:
        _log.info("no requests of the kernel's are taken", reason="this kernel has no handshake family")
    return found
