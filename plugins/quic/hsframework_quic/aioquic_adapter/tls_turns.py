"""The messages that may come in each state, their encryption level and their sizes, as tables."""

from __future__ import annotations

from aioquic.tls import Epoch, HandshakeType, State

NOTHING: frozenset[int] = frozenset()
EXPECTED: dict[State, tuple[Epoch, frozenset[int]]] = {
    State.CLIENT_EXPECT_SERVER_HELLO: (Epoch.INITIAL, frozenset({HandshakeType.SERVER_HELLO})),
    State.CLIENT_EXPECT_ENCRYPTED_EXTENSIONS: (Epoch.HANDSHAKE, frozenset({HandshakeType.ENCRYPTED_EXTENSIONS})),
    State.CLIENT_EXPECT_CERTIFICATE_REQUEST_OR_CERTIFICATE: (
        Epoch.HANDSHAKE,
        frozenset({HandshakeType.CERTIFICATE_REQUEST, HandshakeType.CERTIFICATE}),
    ),
    State.CLIENT_EXPECT_CERTIFICATE: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE})),
    State.CLIENT_EXPECT_CERTIFICATE_VERIFY: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE_VERIFY})),
    State.CLIENT_EXPECT_FINISHED: (Epoch.HANDSHAKE, frozenset({HandshakeType.FINISHED})),
    State.CLIENT_POST_HANDSHAKE: (Epoch.ONE_RTT, frozenset({HandshakeType.NEW_SESSION_TICKET})),
    State.SERVER_EXPECT_CLIENT_HELLO: (Epoch.INITIAL, frozenset({HandshakeType.CLIENT_HELLO})),
    State.SERVER_EXPECT_CERTIFICATE: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE})),
    State.SERVER_EXPECT_CERTIFICATE_VERIFY: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE_VERIFY})),
    State.SERVER_EXPECT_FINISHED: (Epoch.HANDSHAKE, frozenset({HandshakeType.FINISHED})),
    State.SERVER_POST_HANDSHAKE: (Epoch.ONE_RTT, NOTHING),
}
"""The encryption level and the messages of each state; a state that is not here takes nothing."""

MAX_SIZES: dict[int, int] = {
    HandshakeType.CLIENT_HELLO: 1 << 16,
    HandshakeType.SERVER_HELLO: 1 << 13,
    HandshakeType.ENCRYPTED_EXTENSIONS: 1 << 14,
    HandshakeType.CERTIFICATE_REQUEST: 1 << 16,
    HandshakeType.CERTIFICATE: 3 << 15,
    HandshakeType.CERTIFICATE_VERIFY: 1 << 14,
    HandshakeType.FINISHED: 64,
    HandshakeType.NEW_SESSION_TICKET: 1 << 17,
}
"""Bytes of a message's body: several times what any implementation sends."""
