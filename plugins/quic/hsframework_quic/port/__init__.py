"""The gate of a listening UDP port, which decides whose first datagrams begin a handshake."""
