"""Identities from files and bytes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa

from hsframework.credentials.identities import identity_from_bytes, load_identity
from hsframework.errors import ConfigurationError
from hsframework.testing.certificates import KEY_TYPES, Authority, Credential, generate_key, to_pem

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8, TRADITIONAL = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()


@pytest.fixture(scope="module")
def leaf() -> Credential:
    return Authority("Root").intermediate("Upper").intermediate("Lower").issue(["a.example"])


def private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_every_key_type(key_type: str, tmp_path: Path) -> None:
    """An identity of each key type comes back from its files as it was, with the key as PKCS#8 DER."""
    made = Authority().issue(["a.example"], key_type)
    files = made.write(tmp_path)
    identity = load_identity(files.certificate, files.private_key)
    assert identity == made.identity
    assert serialization.load_der_private_key(identity.private_key.reveal(), None)


def test_forms(leaf: Credential, tmp_path: Path) -> None:
    """PEM and DER, PKCS#8 and traditional, one file or two, text around and CRLF lines: the same identity."""
    key = private(tmp_path / "key.der", leaf.key.private_bytes(DER, PKCS8, PLAIN))
    single = tmp_path / "leaf.der"
    single.write_bytes(leaf.certificate)
    assert load_identity(single, key).chain == (leaf.certificate,)
    old_form = leaf.key.private_bytes(PEM, TRADITIONAL, PLAIN)
    assert b"BEGIN EC PRIVATE KEY" in old_form
    both = b"Subject: a\n" + leaf.certificate_pem + b"some text\n" + old_form
    for number, data in enumerate((both, both.replace(b"\n", b"\r\n"), old_form + leaf.certificate_pem)):
        assert load_identity(private(tmp_path / f"both{number}.pem", data)) == leaf.identity


def test_openssl_writes_it(tmp_path: Path) -> None:
    """A key with its parameters block, as openssl ecparam writes it, is read."""
    made = subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey"], capture_output=True, check=True
    ).stdout
    assert b"BEGIN EC PARAMETERS" in made
    key = serialization.load_pem_private_key(made, None)
    credential = Authority().issue(["a.example"], key=key)
    assert identity_from_bytes(credential.certificate_pem, made) == credential.identity


def test_order(leaf: Credential) -> None:
    """The certificates behind the leaf are put in order; one that is not of the path stays behind it."""
    stranger = Authority("Stranger").certificate
    certificate, lower, upper = leaf.chain
    shuffled = b"".join(map(to_pem, (certificate, stranger, upper, lower)))
    identity = identity_from_bytes(shuffled, leaf.private_key_pem)
    assert identity.chain == (certificate, lower, upper, stranger)


def wrong(certificate: bytes, key: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        identity_from_bytes(certificate, key, names=("cert.pem", "key.pem"))
    no_key_material(str(caught.value), key)
    assert caught.value.__cause__ is None


def no_key_material(message: str, key: bytes) -> None:
    for line in key.split(b"\n"):
        assert len(line) < 8 or line.startswith(b"-----") or line.decode("latin-1") not in message


def test_mistakes(leaf: Credential) -> None:
    """Each mistake is a ConfigurationError that names the file, and the line where there is one, and shows no key."""
    good, key = leaf.certificate_pem, leaf.private_key_pem
    wrong(b"", key, r"^cert.pem holds no certificate")
    wrong(good, b"", r"^key.pem holds no private key")
    wrong(good, leaf.certificate_pem, r"^key.pem holds no private key")
    wrong(good, b"\n\n" + key + key, r"^key.pem, line 8: a second private key")
    wrong(good, generate_key().private_bytes(PEM, PKCS8, PLAIN), "does not belong to the first certificate in cert.pem")
    reversed_chain = b"".join(map(to_pem, reversed(leaf.chain)))
    wrong(reversed_chain, key, "put its certificate first")
    wrong(good[:-20], key, "^cert.pem, line [0-9]+: .* has no matching END line")
    wrong(good.replace(b"MII", b"M!!", 1), key, "^cert.pem, line 1: the CERTIFICATE block is not base64")
    wrong(b"#\n" + to_pem(leaf.certificate[:-9]), key, "^cert.pem, line 2: the certificate is damaged")
    body = leaf.key.private_bytes(DER, PKCS8, PLAIN)
    wrong(good, to_pem(body[:-5], "PRIVATE KEY"), "^key.pem, line 1: the private key is damaged")
    wrong(good, b"\x30" + body[:20], "^key.pem: the private key is damaged")
    old = dsa.generate_private_key(2048).private_bytes(PEM, PKCS8, PLAIN)
    wrong(good, old, "^key.pem, line 1: use an RSA")


def test_encrypted_keys(leaf: Credential) -> None:
    """Keys encrypted in either form are refused with the way out."""
    lock = serialization.BestAvailableEncryption(b"correct horse")
    for encoding, form in ((PEM, PKCS8), (PEM, TRADITIONAL), (DER, PKCS8)):
        wrong(leaf.certificate_pem, leaf.key.private_bytes(encoding, form, lock), "is encrypted.*openssl pkey")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
def test_key_files_are_private(leaf: Credential, tmp_path: Path, mode: int) -> None:
    """A key file with any right for group or others is refused, with the command that mends it."""
    files = leaf.write(tmp_path)
    files.private_key.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*'chmod 600 {files.private_key}'"):
        load_identity(files.certificate, files.private_key)


def test_key_files_belong_to_root_or_us(leaf: Credential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key file of another user is refused, even though we could read it."""
    files = leaf.write(tmp_path)
    owner = os.stat(files.private_key).st_uid
    if owner == 0:
        os.chown(files.private_key, 12345, -1)
        owner = 12345
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigurationError, match=f"belongs to user {owner}.*chown root"):
        load_identity(files.certificate, files.private_key)


def test_files_that_are_none(leaf: Credential, tmp_path: Path) -> None:
    """A missing file, a directory and a FIFO without a writer are told at once."""
    files = leaf.write(tmp_path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path, message in (
        (tmp_path / "missing", "cannot be opened: No such file"),
        (tmp_path, "is not a regular file"),
        (fifo, "is not a regular file"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            load_identity(files.certificate, path)
        with pytest.raises(ConfigurationError, match=message):
            load_identity(path, files.private_key)
