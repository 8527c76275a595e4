"""The handshake knock as a plugin for hsframework."""

__version__ = "0.1.0"
