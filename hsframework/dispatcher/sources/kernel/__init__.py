"""The kernel as a source of requests.

* ``wire``: the interface of a form of the service, and the code that both forms share.  ``genl``: the kernel's own
  form, the ``handshake`` family of generic netlink.  ``raw``: the first published form, a netlink family of its own.
* ``groups``: the groups that each form has, for all who ask: sources, the look for members, ``doctor``, grants.
* ``request``: the meaning of the kernel's requests: keys by serial, keyrings, credentials, the peer that is reported.
* ``source``: one form in one network namespace, made of ``states`` (the tables), ``memberships``, ``rounds`` (of
  ACCEPT), ``completion`` and ``sockets``.
* ``sources``: a source for each form in each namespace, as they come and go.
"""

from hsframework.configuration.rules import CLIENT_PROFILE, SERVER_PROFILE
from hsframework.dispatcher.sources.kernel.sources import KernelSources

__all__ = ["CLIENT_PROFILE", "SERVER_PROFILE", "KernelSources"]
