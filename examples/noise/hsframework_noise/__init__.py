"""Noise handshakes (Noise Protocol Framework, revision 34) as a plugin for hsframework."""

__version__ = "0.1.0"
