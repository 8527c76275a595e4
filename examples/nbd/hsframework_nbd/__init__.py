"""Network block devices over TLS: a consumer in user space that gives its protected socket to the kernel.

``negotiation``: NBD's options, before and after TLS.  ``connection``: a socket ready for the kernel.  ``device``: the
kernel's devices, by netlink.  ``main``: the command line.
"""
