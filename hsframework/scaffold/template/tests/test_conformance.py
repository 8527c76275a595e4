"""hsframework's conformance suite, with this plugin."""

from __future__ import annotations

import errno

from hsframework.client import HandshakeOptions
from hsframework.interface import Role
from hsframework.testing.conformance import ConformanceSuite, Scenario, refused

CLIENT = HandshakeOptions(group="knock", attributes={"word": "friend"})
SERVER = HandshakeOptions(group="knock", role=Role.SERVER, attributes={"word": "friend"})
STRANGER = HandshakeOptions(group="knock", role=Role.SERVER, attributes={"word": "enemy"})


class TestConformance(ConformanceSuite):
    """Every rule of the suite; its docstrings explain them."""

    def scenario(self) -> Scenario:
        return Scenario(
            plugin="knock",
            client=CLIENT,
            server=SERVER,
            refused={"another word": refused((CLIENT, STRANGER), client=errno.ECONNRESET, server=errno.EACCES)},
            protected=False,  # the frames are plain text; delete this line with the first cipher
            wrong_settings={"word": {"word": ""}},
            sans_io=("hsframework_knock.exchange", "hsframework_knock.session"),
        )
