"""SPAKE2 (RFC 9382) as a plugin for hsframework."""

__version__ = "0.1.0"
