"""The process that hosts plugins and runs their handshakes, without privileges.

``endpoint`` with ``readiness``: the socket as a handshaker sees it.  ``served``: a prepared protocol.  ``requests``:
from messages; ``outcomes``: to messages.  ``handshake``: one request and its handshaker; ``callbacks``: the functions
that the request carries.  ``link``: the life of the link to the dispatcher, with ``stranded``, over
``pulling``, ``in_hand`` (with ``trusts``) and ``conversation``.  ``room``: room for requests in the process.  ``host``:
all of it on one event loop.  ``keeper``: the warmed process that forks hosts.  ``containment``: bounds for plugins.
``privileges``: what is given up before.
"""
