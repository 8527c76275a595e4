"""hsframework.testing.service: the service as the tests of plugins start it."""

from __future__ import annotations

import pytest

from hsframework.testing.service import running_service

pytestmark = pytest.mark.peers


def test_it_runs_and_ends() -> None:
    """An agent in each group, a folder that is gone afterwards, and everything that was logged."""
    with running_service(groups=("tls13",), configuration="[limits]\nper-source = 7\n") as service:
        assert (service.runtime_dir / "consumer.sock").is_socket()
        assert "the dispatcher is ready" in {event["event"] for event in service.events()}
    assert not service.folder.exists()
    assert "the dispatcher stops" in service.log


@pytest.mark.parametrize(
    ("groups", "configuration", "said"),
    [
        (("tls13",), "nonsense = 1\n", "nonsense"),
        (("tls13",), 'required-plugins = ["nowhere"]\n', "nowhere"),
        (("tls13",), "[plugins.tls13]\ngroups = []\n", "the agent of tls13 cannot start"),
    ],
)
def test_it_does_not_start(groups: tuple[str, ...], configuration: str, said: str) -> None:
    """The error says why, as soon as the service has ended."""
    with pytest.raises(AssertionError, match=said), running_service(groups=groups, configuration=configuration):
        pass
