"""Checks of ``doctor`` and ``config check``, by what is asked.

* ``finding``: the result of a check.
* ``service``: the running service, by its own word.
* ``rehearsal``: a handshake through it, both roles.
* ``units``: systemd's units, by systemd's word.
* ``certificates``: dates of our own certificates.
* ``consumers``: the user who asks, as a consumer.
"""
