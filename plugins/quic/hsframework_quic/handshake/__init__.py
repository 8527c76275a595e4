"""Handshakes on UDP sockets, without I/O; :mod:`hsframework_quic.plugin` runs them in the agent."""
