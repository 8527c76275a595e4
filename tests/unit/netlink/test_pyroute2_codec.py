"""pyroute2's codec is loaded alone, and who asks for pyroute2 has all of it."""

from __future__ import annotations

import json
import subprocess
import sys

LOADED = "[name for name in sys.modules if name.partition('.')[0] in ('pyroute2', 'unittest')]"


def modules_after(code: str) -> list[str]:
    program = f"import json, sys\n{code}\nprint(json.dumps({LOADED}))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    found: list[str] = json.loads(output)
    return found


def test_the_service_loads_the_codec_alone() -> None:
    """The dispatcher, the supervisor and an agent start without the other 160 modules of pyroute2."""
    names = modules_after("import hsframework.supervisor.main, hsframework.netlink.kernel_codec")
    assert "pyroute2.netlink" in names
    assert not [name for name in names if name.startswith(("pyroute2.ndb", "pyroute2.iproute", "unittest"))]


def test_a_plugin_has_all_of_it() -> None:
    """`import pyroute2` and `from pyroute2 import` work as everywhere, after the codec was loaded."""
    code = """
import hsframework.netlink.kernel_codec
import pyroute2
from pyroute2 import IPRoute, NDB, netlink
assert not hasattr(pyroute2, "nonsense")
assert pyroute2.NDB is NDB and pyroute2.__version__ and pyroute2.netlink.genlmsg is netlink.genlmsg
assert hsframework.netlink.kernel_codec.NetlinkDecodeError is pyroute2.NetlinkDecodeError
"""
    assert "pyroute2.ndb.main" in modules_after(code)


def test_a_plugin_that_came_first() -> None:
    """A pyroute2 that is loaded already is used as it is."""
    code = "import pyroute2\nbefore = vars(pyroute2).copy()\nimport hsframework.netlink.kernel_codec\n"
    assert "pyroute2.ndb.main" in modules_after(code + "assert vars(pyroute2) == before")
