"""The plugin's settings: what is wrong is said, with what to use instead."""

from __future__ import annotations

from typing import Any

import pytest

from hsframework.errors import ConfigurationError
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.settings import Settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ciphers": ()}, "ciphers is a list"),
        ({"ciphers": "TLS_AES_128_GCM_SHA256"}, "ciphers is a list"),
        ({"ciphers": [1]}, "ciphers is a list"),
        ({"ciphers": ["AES128-SHA"]}, "'AES128-SHA' is not known; use some of TLS_AES_128"),
        ({"ciphers": ["TLS_AES_128_CCM_8_SHA256"]}, "is not known"),
        ({"groups": ["P-256", "P-256"]}, "groups has a name twice"),
        ({"groups": ["kyber"]}, "'kyber' is not known; use some of X25519MLKEM768"),
        ({"groups": ["P-256"]}, "key-shares: 'X25519MLKEM768' is not known; use some of P-256"),
        ({"kernel_offload": "yes"}, "kernel-offload is true or false"),
        ({"require_alpn": 1}, "require-alpn is true or false"),
        ({"ktls_no_pad": "require"}, "ktls-no-pad is true or false"),
        ({"ktls_zerocopy_sendfile": 1}, "ktls-zerocopy-sendfile is true or false"),
        ({"ktls_max_payload": 62}, "ktls-max-payload is 0, or from 63 to 16384, not 62"),
        ({"ktls_max_payload": 16385}, "ktls-max-payload is 0, or from 63 to 16384"),
        ({"ktls_max_payload": True}, "ktls-max-payload is 0, or from 63 to 16384"),
        ({"ktls_ciphers": "TLS_AES_128_GCM_SHA256"}, "ktls-ciphers is a list"),
        ({"ktls_ciphers": ["AES"]}, "ktls-ciphers: 'AES' is not known; use some of TLS_AES_128_GCM_SHA256"),
        (
            {"ciphers": ["TLS_AES_256_GCM_SHA384"], "ktls_ciphers": ["TLS_AES_128_GCM_SHA256"]},
            "ktls-ciphers: 'TLS_AES_128_GCM_SHA256' is not known; use some of TLS_AES_256_GCM_SHA384",
        ),
        ({"ktls_require": ["no-pad"]}, "'no-pad' is not known; use some of ktls-zerocopy-sendfile, ktls-no-pad"),
        ({"ktls_require": ["ktls-no-pad"]}, "ktls-require: ktls-no-pad is not set; set it too"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], message: str) -> None:
    """Each mistake by its place and with what may stand there."""
    with pytest.raises(ConfigurationError, match=r"^[a-z-]+(:| is| has)") as caught:
        Settings(**values)
    assert message in str(caught.value)


def test_lists_from_a_file_are_taken() -> None:
    """TOML has lists where the dataclass has tuples."""
    given: Any = {"ciphers": ["TLS_AES_256_GCM_SHA384"], "groups": ["P-384"], "key_shares": ["P-384"]}
    assert Settings(**given) == Settings(("TLS_AES_256_GCM_SHA384",), ("P-384",), ("P-384",))
    assert isinstance(hash(Settings(**given)), int)


def test_no_settings_are_the_defaults() -> None:
    """``prepare(None)`` works, and the default groups have the ML-KEM hybrids."""
    handshaker = Tls13Protocol().prepare(None)
    assert "X25519MLKEM768" in handshaker._settings.groups


def test_numbers_at_their_bounds() -> None:
    """The least that is allowed is allowed: the bounds of a record's payload."""
    assert [Settings(ktls_max_payload=size).ktls_max_payload for size in (0, 63, 16384)] == [0, 63, 16384]


def test_ciphers_of_the_kernel() -> None:
    """All of them, or those that are named, in the order of preference."""
    assert Settings().kernel_suites == Settings().suites
    named = Settings(ktls_ciphers=("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"))
    assert [suite.name for suite in named.kernel_suites] == ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]
