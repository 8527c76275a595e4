"""The kernel as a source of requests.

* ``wire``: what the two forms of the service have in common, and what a form is asked for.  ``genl``: the kernel's own,
  the ``handshake`` family of generic netlink.  ``raw``: the first published form, over a netlink family of its own.
* ``request``: what a request of the kernel's means: keys by serial, keyrings, credentials, whom to report as the peer.
* ``source``: one form in one network namespace: membership, rounds of ACCEPT, completion.
* ``sources``: which forms and namespaces there are, as they come and go.
"""

from hsframework.dispatcher.sources.kernel.request import CLIENT_PROFILE, SERVER_PROFILE
from hsframework.dispatcher.sources.kernel.sources import KernelSources

__all__ = ["CLIENT_PROFILE", "SERVER_PROFILE", "KernelSources"]
