"""hsframework: transport security handshakes as a service, for the Linux kernel and for programs in user space."""

from hsframework.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = ["__version__", "hookimpl"]
