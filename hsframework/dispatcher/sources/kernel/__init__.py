"""The kernel as a source of requests.

* ``wire``: the interface of both forms of the service.  ``genl``: the kernel's own, the ``handshake`` family of generic
  netlink.  ``raw``: the first published form, over a netlink family of its own.
* ``request``: the kernel's requests: keys by serial, keyrings, credentials, the peer to report.
* ``source``: one form in one network namespace: membership, rounds of ACCEPT, completion.
* ``sources``: all forms in all namespaces, as they come and go.
"""

from hsframework.dispatcher.sources.kernel.request import CLIENT_PROFILE, SERVER_PROFILE
from hsframework.dispatcher.sources.kernel.sources import KernelSources

__all__ = ["CLIENT_PROFILE", "SERVER_PROFILE", "KernelSources"]
