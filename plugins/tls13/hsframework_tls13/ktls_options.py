"""The options of a session in the kernel's TLS, for network cards (Linux ``Documentation/networking/tls.rst``).

The rules:

* An option is set when both directions are in, and read back: an option that reads back as another value was refused.
* Each option is tried at start on a connection of our own.  One that this kernel refuses is reported and left out; if
  it is required, the plugin does not start.
* A session whose socket refuses an option is kept without it, and tagged; if the option is required, it is refused.
* A limit that was agreed on with the peer (RFC 6066 section 4) is required, whatever the settings say.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hsframework.errors import ConfigurationError
from hsframework.interface import Role, Secret
from hsframework.tls.kernel import SOL_TLS, connected
from hsframework_tls13 import ktls
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.settings import Settings

TLS_TX_ZEROCOPY_RO, TLS_RX_EXPECT_NO_PAD, TLS_TX_MAX_PAYLOAD_LEN = 3, 4, 5


@dataclass(frozen=True, slots=True)
class Option:
    """A socket option of SOL_TLS.  ``setting``: its key in ``[plugins.tls13]``; ``value``: as the kernel takes it."""

    setting: str
    number: int
    value: bytes


def wanted(settings: Settings) -> tuple[Option, ...]:
    """Return the options that the settings ask for."""
    found = []
    if settings.ktls_zerocopy_sendfile:
        found.append(Option("ktls-zerocopy-sendfile", TLS_TX_ZEROCOPY_RO, struct.pack("=I", 1)))
    if settings.ktls_no_pad:
        found.append(Option("ktls-no-pad", TLS_RX_EXPECT_NO_PAD, struct.pack("=I", 1)))
    if settings.ktls_max_payload:
        found.append(Option("ktls-max-payload", TLS_TX_MAX_PAYLOAD_LEN, struct.pack("=H", settings.ktls_max_payload)))
    return tuple(found)


def payload_limit(size: int) -> Option:
    """Return the option for a limit that was agreed on with the peer."""
    return Option("max_fragment_length", TLS_TX_MAX_PAYLOAD_LEN, struct.pack("=H", size))


def limited(options: Iterable[Option], size: int) -> tuple[Option, ...]:
    """Return the options without those that would allow records of more than ``size`` bytes, and with that limit."""
    kept = [
        option
        for option in options
        if option.number != TLS_TX_MAX_PAYLOAD_LEN or struct.unpack("=H", option.value)[0] <= size
    ]
    if any(option.number == TLS_TX_MAX_PAYLOAD_LEN for option in kept):
        return tuple(kept)
    return (*kept, payload_limit(size))


def set_all(sock: socket.socket, options: Iterable[Option]) -> dict[str, str]:
    """Set options on a socket with a session in both directions.

    Returns the reason of each refusal, by the option's setting.
    """
    refused = {}
    for option in options:
        try:
            sock.setsockopt(SOL_TLS, option.number, option.value)
            told = sock.getsockopt(SOL_TLS, option.number, len(option.value))
        except OSError as error:
            refused[option.setting] = os.strerror(error.errno or 0)
            continue
        if told != option.value:
            refused[option.setting] = f"it reads back as {int.from_bytes(told, 'little')}"
    return refused


def refused_here(suite: CipherSuite, options: Iterable[Option]) -> dict[str, str]:
    """Try options on a session between two sockets of our own, and return the refusals as :func:`set_all` does.

    ``suite``: one that the kernel takes.  If there can be no such session, every option is refused.
    """
    secret = Secret(bytes(48 if suite.hash == "sha384" else 32))
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            connected(server) as client,
            server.accept()[0],
        ):
            ktls.install(client, Role.CLIENT, suite, secret, secret)
            return set_all(client, options)
    except (OSError, ktls.KernelRefused) as error:
        return {option.setting: f"it cannot be tried: {error}" for option in options}


def check_required(refused: Mapping[str, str], required: Iterable[str]) -> None:
    """Raise ConfigurationError if a refused option is required."""
    for setting in required:
        if setting in refused:
            raise ConfigurationError(
                f"ktls-require: this kernel refuses {setting} ({refused[setting]}); use a newer kernel, or take it out "
                "of ktls-require"
            )
