"""Pre-shared key files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from hsframework.credentials.identities import load_psk_file
from hsframework.credentials.psk import hash_of_nvme_identity, parse_psks
from hsframework.errors import ConfigurationError
from hsframework.interface import PresharedKey, Secret

HEX = "00112233445566778899aabbccddeeff"
KEY = Secret(bytes.fromhex(HEX))
NVME_1 = "NVMe1R01 nqn.2014-08.org.nvmexpress:uuid:4c4c nqn.2024-01.example:sub Aa/+="
NVME_2 = "NVMe0G02 nqn.2014-08.org.nvmexpress:uuid:4c4c nqn.2024-01.example:sub"


def parse(text: str) -> tuple[PresharedKey, ...]:
    return parse_psks(text.encode(), "keys.txt")


def test_forms() -> None:
    """The key stands behind the last colon, before an optional hash; identities may hold blanks and colons."""
    text = f"""# keys
alice:{HEX}
   bob:{HEX.upper()}:SHA384\r

a:b c:{HEX}:sha256
žluťoučký:{HEX}
{NVME_1}:{HEX}
{NVME_2}:{HEX}
"""
    expected = [
        ("alice", "sha256"),
        ("bob", "sha384"),
        ("a:b c", "sha256"),
        ("žluťoučký", "sha256"),
        (NVME_1, "sha256"),
        (NVME_2, "sha384"),
    ]
    assert parse(text) == tuple(PresharedKey(name.encode(), KEY, digest) for name, digest in expected)


def test_nvme_hashes() -> None:
    """The hash of an NVMe name is its own; a line may repeat it and not contradict it."""
    assert parse(f"{NVME_2}:{HEX}:sha384")[0].hash == "sha384"
    assert hash_of_nvme_identity(NVME_1.encode()) == "sha256"
    assert hash_of_nvme_identity(NVME_2.encode()) == "sha384"
    assert hash_of_nvme_identity(b"alice") is None
    assert hash_of_nvme_identity(b"NVMe1R03 a b") is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("alice", "line 2: write identity:key"),
        (f":{HEX}", "line 2: write identity:key"),
        (f"{HEX}:sha256", "line 2: write identity:key"),
        (f"alice:{HEX[:-1]}", "line 2: what follows the last colon"),
        (f"alice:{HEX}:sha512", "line 2: what follows the last colon"),
        ("alice:", "line 2: what follows the last colon"),
        (f"alice:{HEX} {HEX}", "line 2: what follows the last colon"),
        (f"alice:{HEX[:-2]}", "line 2: the key has 15 bytes.*openssl rand"),
        (f"alice:{HEX * 33}", "line 2: the key has 528 bytes"),
        (f"{NVME_1}:{HEX}:sha384", "says sha256, the line sha384"),
        (f"{NVME_1.replace('R01', 'R03')}:{HEX}", "unknown hash"),
        (f"{NVME_1}:NVMeTLSkey-1:01:{HEX}:", "interchange form"),
        (f"first:{HEX}", "line 2: the identity stands in an earlier line too"),
        (f"a\x07b:{HEX}", "no control characters"),
    ],
)
def test_mistakes(line: str, message: str) -> None:
    """Each mistake is told with its line, and neither key nor identity is shown."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse(f"first:{HEX}\n{line}\n")
    assert str(caught.value).startswith("keys.txt")
    assert HEX[:8] not in str(caught.value)
    assert "alice" not in str(caught.value)


def test_not_utf8() -> None:
    """An identity in another encoding is refused."""
    with pytest.raises(ConfigurationError, match="line 1: the identity is not UTF-8"):
        parse_psks(b"\xff:" + HEX.encode(), "keys.txt")


def test_empty() -> None:
    """A file without keys is a mistake."""
    for text in ("", "\n# alice:00\n"):
        with pytest.raises(ConfigurationError, match="holds no key"):
            parse(text)


def test_file(tmp_path: Path) -> None:
    """The file must be private, like one with a private key."""
    path = tmp_path / "keys.txt"
    path.write_text(f"alice:{HEX}\n")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_psk_file(path)
    path.chmod(0o600)
    assert load_psk_file(path) == (PresharedKey(b"alice", KEY),)


@pytest.mark.skipif(shutil.which("psktool") is None, reason="GnuTLS's psktool is not installed")
def test_psktool_writes_it(tmp_path: Path) -> None:
    """A file that GnuTLS's psktool wrote is read as it is."""
    path = tmp_path / "psk.txt"
    subprocess.run(["psktool", "-u", "alice", "-s", "32", "-p", str(path)], check=True, capture_output=True)
    path.chmod(0o600)
    (key,) = load_psk_file(path)
    assert key.identity == b"alice"
    assert key.key.reveal().hex() == path.read_text().strip().rpartition(":")[2]


IDENTITY = st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=40)


@given(
    name=IDENTITY.filter(lambda s: not s.startswith("#")), key=st.binary(min_size=16, max_size=64), named=st.booleans()
)
def test_round_trip(name: str, key: bytes, named: bool) -> None:
    """A written key is read as it was, with any identity."""
    line = f"{name}:{key.hex()}" + (":sha384" if named else "")
    assert parse(line) == (PresharedKey(name.encode(), Secret(key), "sha384" if named else "sha256"),)


@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Any contents give keys or a ConfigurationError."""
    try:
        keys = parse_psks(data, "keys.txt")
    except ConfigurationError:
        return
    assert all(16 <= len(key.key) <= 512 for key in keys)
