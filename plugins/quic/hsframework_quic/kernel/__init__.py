"""In-kernel QUIC sockets: their TLS handshake, options and tickets."""
