"""Forms of the kernel's service that are served."""

from __future__ import annotations

import errno

import pytest
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration, KernelSettings, RawSettings
from hsframework.dispatcher.sources.kernel import raw, sources
from hsframework.dispatcher.sources.kernel.genl import Refusal
from hsframework.dispatcher.sources.kernel.groups import FormGroups
from hsframework.dispatcher.sources.kernel.raw import RawWire
from hsframework.dispatcher.sources.kernel.sources import served_forms
from hsframework.netlink.socket import NetlinkError


@pytest.mark.parametrize(
    ("refusal", "enabled", "names"),
    [
        (None, False, ["kernel"]),
        (None, True, ["kernel", "kernel-raw"]),
        (Refusal("no such family"), True, ["kernel-raw"]),
        (Refusal("no such family"), False, []),
        (Refusal("not allowed", forbidden=True), True, []),
    ],
    ids=["the kernel's own", "both", "the raw form alone", "none", "forbidden"],
)
def test_served_forms(
    monkeypatch: pytest.MonkeyPatch, refusal: Refusal | None, enabled: bool, names: list[str]
) -> None:
    """The raw form is served where it is configured, unless the kernel allows us none."""
    monkeypatch.setattr(sources, "refusal", lambda: refusal)
    monkeypatch.setattr(sources, "form_groups", lambda _: [FormGroups("kernel", 16, {"tlshd": 14})])
    configuration = Configuration(kernel=KernelSettings(raw=RawSettings(enabled=enabled)))
    with capture_logs():
        assert [form.name for form in served_forms(configuration)] == names


def test_no_module_offers_the_raw_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errno is one of those that mean that the service is gone, so it is looked for again."""
    monkeypatch.setattr(raw, "has_family", lambda _: False)
    with pytest.raises(NetlinkError) as missing:
        RawWire({"tlshd": 1})
    assert missing.value.errno == errno.EPROTONOSUPPORT
