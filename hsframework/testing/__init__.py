"""Test tools for the authors of plugins, without root, a kernel or a network.

* :mod:`~hsframework.testing.conformance`: the rules of the interface, as tests that any plugin runs with one class.
* :mod:`~hsframework.testing.dispatcher`: a plugin in the agent's own code, with a dispatcher in memory.
* :mod:`~hsframework.testing.network`: a bad network between two sockets, controlled by a seed.
* :mod:`~hsframework.testing.memory`: an endpoint without a socket, for a handshaker that is run by hand.
* :mod:`~hsframework.testing.virtual_time`: an event loop on which waiting takes no time.
* :mod:`~hsframework.testing.certificates`: throw-away authorities and certificates.
* :mod:`~hsframework.testing.pytest_plugin`: fixtures.
"""
