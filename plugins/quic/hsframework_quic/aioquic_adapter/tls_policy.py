"""The TLS policy of a request, applied to the options of its handshake.  Sans-IO.

The options are the bound: a policy narrows them and gives the order of preference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Request
from hsframework.tls.priorities import policy_of
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions, find_none, issue_none, keep_none


def narrowed(options: TlsOptions, request: Request, further_groups: Iterable[int] = ()) -> TlsOptions:
    """Return the options of a handshake that keeps to the request's TLS policy.

    ``further_groups``: of these a client offers one, where the policy leaves it none of its key shares.  Raises
    HandshakeFailed (NOT_OFFERED_HERE) for a policy that cannot be kept.
    """
    policy = policy_of(request)
    if policy is None:
        return options
    groups = _left(policy.groups, options.groups) or _left(policy.groups, further_groups)[:1]
    options = replace(
        options,
        cipher_suites=_some(_left(policy.ciphers, options.cipher_suites), "ciphers"),
        groups=_some(groups, "groups"),
        signatures=_some(_left(policy.signatures, options.signatures), "signatures"),
    )
    if policy.tickets:
        return options
    return replace(options, issue=issue_none, find=find_none, keep=keep_none, resume=None)


def _left(wanted: Sequence[int], offered: Iterable[int]) -> tuple[int, ...]:
    found = frozenset(offered)
    return tuple(code for code in wanted if code in found)


def _some(codes: tuple[int, ...], what: str) -> tuple[int, ...]:
    if not codes:
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, f"the TLS policy allows none of the {what} of QUIC here")
    return codes
