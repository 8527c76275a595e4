"""Alert rules, dashboard and the page about metrics name what the service has, and all of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from hsframework.configuration.settings import Configuration, IdentitySettings, TrustSettings
from hsframework.dispatcher.gauges import observe
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.policy import Policy
from hsframework.dispatcher.renewal import Ended, Parts, Renewal
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sessions.sessions import Sessions
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.process.kept import Kept
from hsframework.telemetry.metrics import Kind, exposition
from hsframework.testing.certificates import Authority, to_pem
from tests.unit.dispatcher.sessions import session

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "packaging" / "monitoring"
_NAME = re.compile(r"\bhsframework_[a-z_]+")
_SELECTOR = re.compile(r"\b(hsframework_[a-z_]+)\{([^}]*)\}")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job", "le"}
AUTHORITY = Authority("Metrics Root")
LEAF = AUTHORITY.issue(["a.example"])


def exposed(folder: Path) -> str:
    """Return the text that a dispatcher with one of everything gives to Prometheus."""
    files = LEAF.write(folder)
    (folder / "crl.pem").write_bytes(to_pem(AUTHORITY.crl([]), "X509 CRL"))
    configuration = Configuration(
        identities={"web": IdentitySettings(certificate=files.certificate, private_key=files.private_key)},
        trust={"peers": TrustSettings(bundle=(files.ca,), crl=(folder / "crl.pem",))},
    )

    async def body() -> str:
        loop = asyncio.get_running_loop()
        dispatcher, policy, vault = Dispatcher(configuration), Policy(configuration), Vault(configuration)
        local = LocalSource(dispatcher, policy, vault, None, configuration, loop=loop)
        sessions = Sessions(vault, configuration, Kept(), loop=loop)
        renewal = Renewal(Parts(policy=policy, agents=None, local=local), configuration, loop=loop)  # type: ignore[arg-type]
        observe(dispatcher, local, sessions, renewal)
        dispatcher.expect(["tlshd"])
        sessions.book._sessions[b"1"] = session()
        sessions.results["ended"] += 1
        renewal._end(1, Ended("wrong"))
        metrics = dispatcher.metrics
        metrics.handshake("tlshd", 0, 0.1, Kind("client", "tls13", "local", "EXPIRED"))
        metrics.refusal("tlshd", 11)
        metrics.session("software", "device")
        metrics.crowded("dispatcher", "verdicts", 1)
        text = exposition(metrics)().decode()
        sessions.close()
        dispatcher.stop()
        return text

    return asyncio.run(body())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return exposed(tmp_path_factory.mktemp("metrics"))


@pytest.fixture(scope="module")
def samples(text: str) -> dict[str, set[str]]:
    """The labels of each sample's name, as Prometheus stores them."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, _rest = line.partition(" ")[0].partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', line[len(name) :]))
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


def expressions() -> Iterator[tuple[str, str, str]]:
    """Yield file, expression and the text beside it, which names labels as ``{{ $labels.group }}`` or ``{{group}}``."""
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield "alerts.yml", rule["expr"], " ".join(rule["annotations"].values())
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield "dashboard.json", variable["query"]["query"], ""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield "dashboard.json", target["expr"], target["legendFormat"]


@pytest.mark.parametrize(("file", "expression", "beside"), list(expressions()))
def test_an_expression(file: str, expression: str, beside: str, samples: dict[str, set[str]]) -> None:
    """Each metric in it exists, and has each label by which it is selected, grouped or described."""
    names = set(_NAME.findall(expression))
    assert names <= samples.keys(), file
    labels = OF_PROMETHEUS.union(*(samples[name] for name in names))
    used = {label for _, selector in _SELECTOR.findall(expression) for label in re.findall(r"(\w+)\s*[=!]~?", selector)}
    for grouping in _GROUPED.findall(expression):
        used.update(label.strip() for label in grouping.split(","))
    used.update(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", beside))
    assert used <= labels, (file, expression)
    assert expression.count("(") == expression.count(")")


def _families(text: str) -> set[str]:
    lines = (line.split() for line in text.splitlines() if line.startswith("# TYPE "))
    return {words[2] for words in lines if not words[2].endswith("_created")}


def test_everything_is_shown(text: str) -> None:
    """Each metric has a panel of the dashboard and a line of the page, and the page has no others."""
    page = (ROOT / "docs" / "howto" / "monitor.md").read_text()
    documented = set(re.findall(r"^\| `(hsframework_\w+)`", page, re.MULTILINE))
    assert documented == _families(text)
    shown = {
        name.removesuffix("_bucket")
        for file, expression, _ in expressions()
        if file == "dashboard.json"
        for name in _NAME.findall(expression)
    }
    assert shown == documented


def test_the_pages_labels(samples: dict[str, set[str]]) -> None:
    """The page has the labels of each metric."""
    page = (ROOT / "docs" / "howto" / "monitor.md").read_text()
    for name, labels in re.findall(r"^\| `(hsframework_\w+)` \| ([^|]*)\|", page, re.MULTILINE):
        found = samples.get(name, samples.get(f"{name}_bucket", set()) - {"le"})
        assert set(re.findall(r"`(\w+)`", labels)) == found, name


def test_the_panels() -> None:
    """They have numbers of their own, do not overlap, and ask the data source that is chosen."""
    panels: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {"${datasource}"}


def test_values(text: str) -> None:
    """Ends of credentials are those of the files, and a reload that was refused is counted."""
    end = datetime.fromtimestamp(_value(text, 'certificate_expiry_timestamp_seconds{identity="web"}'), UTC)
    assert 1 <= (end - datetime.now(UTC)).days < 4000
    issuer = 'revocation_list_expiry_timestamp_seconds{issuer="CN=Metrics Root",trust="peers"}'
    assert 28 <= (datetime.fromtimestamp(_value(text, issuer), UTC) - datetime.now(UTC)).days <= 30
    assert _value(text, 'reloads_total{result="refused"}') == 1
    assert _value(text, 'reloads_total{result="taken"}') == 0
    assert _value(text, 'sessions_open{protocol="tls13",role="server"}') == 1
    assert _value(text, 'agents{group="tlshd"}') == 0
    labels = 'group="tlshd",protocol="tls13",reason="EXPIRED",role="client",source="local",status="OK"'
    assert _value(text, f"handshakes_total{{{labels}}}") == 1
    assert _value(text, 'process_resident_memory_bytes{name="",role="dispatcher"}') > 1 << 20


def _value(text: str, sample: str) -> float:
    (line,) = (line for line in text.splitlines() if line.startswith(f"hsframework_{sample} "))
    return float(line.rpartition(" ")[2])
