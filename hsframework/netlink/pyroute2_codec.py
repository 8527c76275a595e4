"""pyroute2's message classes, without the rest of pyroute2.

Its package imports all of its 160 modules and `unittest`, 130 ms in each process; the codec needs three of them.  So
the package is entered into ``sys.modules`` before its own code has run: its modules are found by its path.  Its code
runs as soon as a name of the package itself is asked for, by a plugin for example that does ``import pyroute2``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any


def _enter_package() -> None:
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or spec.loader is None:
        return  # the import that follows says so
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)

    def run_first(name: str) -> Any:
        if name.startswith("__") and name not in ("__all__", "__version__"):
            # Programs look for these in every module, `warnings` for one.
            raise AttributeError(name)
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = run_first  # type: ignore[method-assign]
    sys.modules["pyroute2"] = package


if "pyroute2" not in sys.modules:
    _enter_package()
_netlink = importlib.import_module("pyroute2.netlink")

NLA_F_NESTED: int = _netlink.NLA_F_NESTED
NetlinkDecodeError: type[Exception] = importlib.import_module("pyroute2.netlink.exceptions").NetlinkDecodeError
genlmsg: Any = _netlink.genlmsg
nla: Any = _netlink.nla
nlmsg: Any = _netlink.nlmsg
