"""A TLS session and its socket, for the core's streams, with KeyUpdate."""

from __future__ import annotations

import socket
import time
from abc import abstractmethod

from hsframework import streams
from hsframework.interface import Role, Secret
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import MAX_PLAINTEXT


class Channel(streams.Channel):
    """The core's channel (its rules: :mod:`hsframework.streams.channel`), with keys that can be changed."""

    @abstractmethod
    def queue_key_update(self, request_peer: bool) -> None:
        """Queue a KeyUpdate; data that is queued after it is under the new keys."""


class UserSpaceChannel(streams.UserSpaceChannel, Channel):
    """A session whose record layer is ours; the socket carries records."""

    def __init__(
        self,
        sock: socket.socket,
        role: Role,
        suite: CipherSuite,
        client_secret: Secret,
        server_secret: Secret,
        *,
        read_sequence: int = 0,
        write_sequence: int = 0,
        max_payload: int = MAX_PLAINTEXT,
    ) -> None:
        self._layer = RecordLayer(
            role,
            suite,
            client_secret,
            server_secret,
            read_sequence=read_sequence,
            write_sequence=write_sequence,
            max_payload=max_payload,
            clock=time.monotonic,
        )
        super().__init__(sock, self._layer)

    def queue_key_update(self, request_peer: bool) -> None:
        self._outgoing += self._layer.update_keys(request_peer)
