"""Netlink: specs, codecs, and sockets to the kernel."""
