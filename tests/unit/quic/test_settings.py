"""The table ``[plugins.quic]``: each wrong value says what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hsframework.configuration.toml import settings_from_table
from hsframework.errors import ConfigurationError
from hsframework.interface import Role
from hsframework_quic.plugin import QuicHandshaker
from hsframework_quic.settings import Settings


def test_what_is_sent() -> None:
    """Names to numbers, in their order."""
    settings = Settings(versions=("v2", "v1"), ciphers=("TLS_CHACHA20_POLY1305_SHA256",), key_shares=("P-256",))
    assert settings.wire_versions == (0x6B3343CF, 1)
    assert settings.suites == (0x1303,)
    assert settings.wire_groups(Role.CLIENT) == (0x17,)
    assert settings.wire_groups(Role.SERVER)[0] == 0x1D


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"versions": []}, "versions is a list"),
        ({"versions": ["v3"]}, "use some of v1, v2"),
        ({"versions": ["v1", "v1"]}, "a name twice"),
        ({"ciphers": ["TLS_AES_128_CCM_SHA256"]}, "is not known"),
        ({"key-shares": ["ffdhe2048"]}, "key-shares"),
        ({"max-datagram-size": 1199}, "from 1200 to 65527"),
        ({"max-data": -1}, "max-data"),
        ({"max-streams": 0}, "max-streams"),
        ({"max-streams": 16385}, "from 1 to 16384"),
        ({"max-datagram-frame": 65536}, "from 0 to 65535"),
        ({"idle-timeout": 0}, "seconds"),
        ({"tickets": -1}, "tickets"),
        ({"ticket": 1}, "did you mean 'tickets'"),
        ({"keylog-file": 1}, "path"),
    ],
)
def test_wrong_values(table: dict[str, Any], said: str) -> None:
    """ConfigurationError, with the table's name and the key."""
    with pytest.raises(ConfigurationError, match=said) as wrong:
        settings_from_table(Settings, table, "plugins.quic")
    assert "plugins.quic" in str(wrong.value)


def test_logs_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said when the agent starts, with the setting's name: a folder, a file that is missing, SSLKEYLOGFILE too."""
    with pytest.raises(ConfigurationError, match="keylog-file"):
        QuicHandshaker(Settings(keylog_file=tmp_path))
    with pytest.raises(ConfigurationError, match="qlog-dir"):
        QuicHandshaker(Settings(qlog_dir=tmp_path / "missing"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    with pytest.raises(ConfigurationError, match="SSLKEYLOGFILE"):
        QuicHandshaker(Settings())
