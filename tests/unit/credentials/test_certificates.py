"""The throw-away certificates that hsframework.testing gives to plugin authors."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hsframework.credentials.identities import load_identity, load_trust
from hsframework.testing.certificates import KEY_TYPES, Authority, Credential, generate_key, self_signed, to_pem


@pytest.fixture(scope="module")
def leaf() -> Credential:
    return Authority("Root").intermediate("Issuing").issue(["a.example", "192.0.2.1"])


def test_files(leaf: Credential, tmp_path: Path) -> None:
    """The loaders read what is written, the key is private, and a second writing replaces it."""
    for _ in range(2):
        files = leaf.write(tmp_path, "server")
        assert files.private_key.stat().st_mode & 0o777 == 0o600
        assert load_identity(files.certificate, files.private_key) == leaf.identity
        assert load_trust([files.ca]).anchors == (leaf.anchor,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server-ca.crt", "server.crt", "server.key"]


@pytest.mark.parametrize("key_type", [name for name in KEY_TYPES if not name.startswith("ml-dsa")])
@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed")
def test_openssl_reads_the_files(key_type: str, tmp_path: Path) -> None:
    """The openssl program reads chain and key, and the key is the certificate's."""
    files = Authority("Root", key_type).issue(["a.example"], key_type).write(tmp_path)
    certificate, key = str(files.certificate), str(files.private_key)
    commands = (["x509", "-pubkey", "-noout", "-in", certificate], ["pkey", "-pubout", "-in", key])
    public = [subprocess.run(["openssl", *words], capture_output=True, check=True).stdout for words in commands]
    assert public[0] == public[1] != b""


@pytest.mark.skipif(shutil.which("certtool") is None, reason="GnuTLS's certtool is not installed")
def test_gnutls_believes_the_chain(leaf: Credential, tmp_path: Path) -> None:
    """GnuTLS reads the files and verifies chain and name."""
    files = leaf.write(tmp_path)
    command = ["certtool", "--verify", "--infile", str(files.certificate), "--load-ca-certificate", str(files.ca)]
    done = subprocess.run([*command, "--verify-hostname", "a.example"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_private_is_shown(leaf: Credential) -> None:
    """The repr of a credential has no key in it."""
    assert "key" not in repr(leaf)
    assert "key" not in repr(self_signed())


def test_rsa_keys_are_kept() -> None:
    """RSA keys are made a few times and then taken again; neighbours differ; other keys are always new."""
    keys = [generate_key("rsa-2048") for _ in range(12)]
    assert len({id(key) for key in keys}) == 4
    assert all(one is not other for one, other in itertools.pairwise(keys))
    assert generate_key() is not generate_key()


def test_names_and_pem() -> None:
    """Names and addresses go to the right type of entry; to_pem is what everybody else writes."""
    certificate = x509.load_der_x509_certificate(self_signed(["a.example", "192.0.2.1", "2001:db8::1"]).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["192.0.2.1", "2001:db8::1"]
    assert x509.load_pem_x509_certificate(to_pem(certificate.public_bytes(Encoding.DER))) == certificate
    assert to_pem(certificate.public_bytes(Encoding.DER)) == certificate.public_bytes(Encoding.PEM)
