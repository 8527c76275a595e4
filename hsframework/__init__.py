"""hsframework: transport security handshakes as a service, for the Linux kernel and for programs in user space."""

TYPE_CHECKING = False

__version__ = "0.1.0"

__all__ = ["__version__", "hookimpl"]

if TYPE_CHECKING:
    from hsframework.hookspecs import hookimpl
else:

    def __getattr__(name):
        """Return ``hookimpl``, imported on demand: other imports of the package do not need pluggy."""
        if name != "hookimpl":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from hsframework.hookspecs import hookimpl

        return hookimpl
