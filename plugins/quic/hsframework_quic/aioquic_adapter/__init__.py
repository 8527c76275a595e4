"""The part of the plugin that uses aioquic's private names; nothing outside this folder does.

* :mod:`.handshaking`: aioquic's connection as the agent runs it.
* :mod:`.export` and :mod:`.restore`: a connection to a :class:`~hsframework_quic.session.QuicSession` and back.
* :mod:`.consumer`: the restored connection, with receive windows that follow the consumer.
* :mod:`.stateless`: packets that are sent without a connection.
* :mod:`.tls`: the TLS engine with hsframework's verification.

aioquic is pinned exactly; the tests in ``tests/unit/quic`` fail when a name that is used here moves.
"""
