"""The process that hosts plugins and runs their handshakes, without privileges.

``endpoint``: the socket as a handshaker sees it.  ``served``: a prepared protocol.  ``requests``: messages to requests
and results to messages.  ``handshake``: one request in hand.  ``link``: the connection to the dispatcher, with
``trusts`` and ``stranded``.  ``host``: all of it on one event loop.  ``keeper``: the warmed process that forks hosts.
``privileges``: what is given up before.
"""
