"""The gate of a listening UDP port: which first datagrams begin a handshake."""
