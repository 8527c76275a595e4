"""aioquic's private names that aioquic_adapter/tls_*.py use: a release that moves one is told here, by name."""

from __future__ import annotations

import inspect

import pytest
from aioquic import tls

METHODS = {
    "_handle_reassembled_message": ["self", "message_type", "input_buf", "output_buf"],
    "_build_session_ticket": ["self", "new_session_ticket", "other_extensions"],
    "_check_certificate_verify_signature": ["self", "verify"],
    "_client_send_hello": ["self", "output_buf"],
    "_client_handle_hello": ["self", "input_buf", "output_buf"],
    "_client_handle_finished": ["self", "input_buf", "output_buf"],
    "_server_handle_hello": ["self", "input_buf", "initial_buf", "handshake_buf"],
    "_server_handle_certificate": ["self", "input_buf"],
    "_server_handle_finished": ["self", "input_buf", "output_buf"],
    "_set_peer_certificate": ["self", "certificate"],
    "_signature_algorithms_for_private_key": ["self"],
    "handle_message": ["self", "input_data", "output_buf"],
}
ATTRIBUTES = {
    "_is_client": bool,
    "_supported_groups": list,
    "_signature_algorithms": list,
    "_cipher_suites": list,
    "_request_client_certificate": bool,
    "_certificate_request": type(None),
    "_dec_key": type(None),
    "_psk_key_exchange_mode": type(None),
    "_session_resumed": bool,
    "certificate": type(None),
    "certificate_chain": list,
    "certificate_private_key": type(None),
    "handshake_extensions": list,
    "session_ticket": type(None),
    "get_session_ticket_cb": type(None),
    "new_session_ticket_cb": type(None),
    "early_data_accepted": bool,
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method(name: str) -> None:
    """It is there, with the parameters that we override or call it with."""
    method = getattr(tls.Context, name, None)
    assert method is not None, f"aioquic.tls.Context.{name} is gone: see what aioquic_adapter/tls_*.py needs it for"
    found = list(inspect.signature(method).parameters)
    assert found == METHODS[name], f"aioquic.tls.Context.{name} now takes {found}"


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute(name: str) -> None:
    """It is there from the start, with the kind of value that we expect."""
    context = tls.Context(is_client=False)
    assert hasattr(context, name), f"aioquic.tls.Context.{name} is gone: see what aioquic_adapter/tls_*.py needs it for"
    kind = type(getattr(context, name))
    assert kind is ATTRIBUTES[name], f"aioquic.tls.Context.{name} is now a {kind.__name__}"


def test_a_servers_expected_finished() -> None:
    """``_expected_verify_data`` is set where a server begins to wait for Finished."""
    source = inspect.getsource(tls.Context._server_expect_finished)
    assert "self._expected_verify_data =" in source, "aioquic keeps a server's expected Finished elsewhere"


def test_the_states_are_those_of_our_table() -> None:
    """A state that aioquic adds would take no message; one that it drops would be an error at import."""
    from hsframework_quic.aioquic_adapter.tls_turns import EXPECTED

    assert set(tls.State) == {*EXPECTED, tls.State.CLIENT_HANDSHAKE_START}


def test_the_tables_that_are_added_to() -> None:
    """``SIGNATURE_ALGORITHMS`` and ``CIPHER_SUITES`` are still dictionaries that aioquic looks into."""
    assert 0x0403 in tls.SIGNATURE_ALGORITHMS
    assert len(tls.signature_algorithm_params(0x0904)) >= 0
    assert tls.cipher_suite_hash(tls.CipherSuite.AES_128_GCM_SHA256).name == "sha256"


def test_the_version() -> None:
    """The exact version that the distribution pins."""
    from importlib.metadata import requires, version

    assert f"aioquic=={version('aioquic')}" in (requires("hsframework-quic") or [])
