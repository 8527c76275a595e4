"""TLS 1.3 messages and signatures (RFC 8446), for all protocols that contain a TLS handshake, and the kernel's TLS."""
