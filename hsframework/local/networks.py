"""Networks of remote hosts, by which requests are counted and take turns."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def network_of(address: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """Return the network of an address, ``2001:db8::1`` → ``2001:db8::/64``; what is no IP address stays as it is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6:
        found = found.ipv4_mapped or found
    prefix = ipv4_prefix if found.version == 4 else ipv6_prefix
    return address if prefix == found.max_prefixlen else str(ipaddress.ip_network((int(found), prefix), strict=False))
