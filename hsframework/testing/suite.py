"""The base of the classes of checks that the conformance suite consists of."""

from __future__ import annotations

from hsframework.testing.scenario import Scenario


class Checks:
    """Checks of one plugin; :meth:`scenario` names handshakes that succeed and that fail."""

    def scenario(self) -> Scenario:
        """Return the plugin and its handshakes.  Called once for each check."""
        raise NotImplementedError("a conformance test says what is tested: def scenario(self) -> Scenario")
