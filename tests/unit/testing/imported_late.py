"""What a plugin imports in mid-handshake."""
