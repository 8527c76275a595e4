"""A module that a plugin imports in mid-handshake."""
