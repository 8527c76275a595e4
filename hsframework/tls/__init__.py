"""TLS 1.3 messages and signatures (RFC 8446) as every protocol that speaks TLS needs them.  Sans-IO."""
