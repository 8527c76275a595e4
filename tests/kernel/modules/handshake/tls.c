// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is there a TLS session in a socket?
 */
#include <net/inet_connection_sock.h>
#include <net/tls.h>

#include "request.h"

/**
 * hsf_tls_established - look for a session of the kernel's TLS
 * @sk: any sock
 *
 * For hsf_handshake_ops.established.  May sleep.
 *
 * Return: true if both directions are protected.
 */
bool hsf_tls_established(struct sock *sk)
{
	const struct tcp_ulp_ops *ulp;
	bool found = false;

	if (!sk_is_tcp(sk))
		return false;
	lock_sock(sk);
	ulp = inet_csk(sk)->icsk_ulp_ops;
	if (ulp && !strcmp(ulp->name, "tls") && tls_get_ctx(sk))
		found = tls_get_ctx(sk)->tx_conf != TLS_BASE &&
			tls_get_ctx(sk)->rx_conf != TLS_BASE;
	release_sock(sk);
	return found;
}
EXPORT_SYMBOL_GPL(hsf_tls_established);
