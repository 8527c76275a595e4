"""Credentials for every protocol: certificates, keys, trust, names and revocation."""
