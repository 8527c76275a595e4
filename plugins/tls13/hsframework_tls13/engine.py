"""A TLS 1.3 handshake without I/O: records in, records out, OpenSSL in between on memory BIOs.

::

    engine = ClientEngine(contexts, server_name="server.example", verify=verify)
    while True:
        send(engine.data_to_send())
        if engine.finished: break
        engine.feed(receive_one_record())
    session = engine.established

The rules:

* ``feed`` takes exactly one record.  Once ``finished``, nothing more is fed: what follows is the session's.
* ``feed`` raises HandshakeFailed; ``data_to_send`` has the alert then, where the peer is to be told anything.
* The peer's certificates are judged in OpenSSL's verify callback, before our Finished goes out; OpenSSL's own opinion
  of them counts only where it finds them too weak.
* A client that refuses its server lets OpenSSL go on to the end and throws its last flight away: before, OpenSSL has no
  keys for writing in place and would send its alert in plain text, which not every server accepts (RFC 8446 section 6).
* A server's session tickets are dropped: they are all that OpenSSL writes in the call in which its handshake
  succeeds, and without them our first record has sequence number 0.
* Where OpenSSL refuses, the alert is its own (:mod:`.openssl_failures` has the exceptions); where the engine
  or its caller refuses, the table's: then it is our first protected record (a client's, instead of its Finished).
"""

from __future__ import annotations

from hsframework.credentials.judgement import Verify, no_trust
from hsframework_tls13.engine_client import ClientEngine
from hsframework_tls13.engine_core import Engine, Established
from hsframework_tls13.engine_server import ServerEngine

__all__ = ["ClientEngine", "Engine", "Established", "ServerEngine", "Verify", "no_trust"]
