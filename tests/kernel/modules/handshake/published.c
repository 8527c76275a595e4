// SPDX-License-Identifier: GPL-2.0-only
/*
 * The published dialect: the nests as the second patch of February 2023 and the agent of that
 * month have them.
 *
 * An ACCEPT that succeeds has no HSF_A_MSG_STATUS: that agent takes any for a failure.  Whatever a
 * DONE says or does not say, it ends the request.
 *
 * What the published text cannot say is refused to consumers, or has a number behind its last one,
 * which an agent that was written from it does not read.
 */
#include <net/netlink.h>

#include "dialect.h"

/* TLS 1.3, with the ciphers that the kernel's TLS has; no session tickets. */
#define HSF_DEFAULT_PRIORITIES \
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:%NO_TICKETS:-CIPHER-ALL:" \
	"+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305:+AES-128-CCM"

static const u32 hsf_published_auth[] = {
	[HSF_AUTH_UNAUTH]	= HSF_P_AUTH_UNAUTH,
	[HSF_AUTH_PSK]		= HSF_P_AUTH_PSK,
	[HSF_AUTH_X509]		= HSF_P_AUTH_X509,
};

static int hsf_published_check(const struct hsf_handshake_args *args)
{
	bool told = args->handshake_type == HSF_HANDSHAKE_INITIAL && args->num_peerids <= 1;

	return told ? 0 : -EOPNOTSUPP;
}

static int hsf_published_put_head(struct sk_buff *answer, int fd,
				  const struct hsf_handshake_args *args)
{
	return nla_put_u32(answer, HSF_A_SOCKFD, fd);
}

static int hsf_published_put_keys(struct sk_buff *answer, const struct hsf_handshake_args *args)
{
	switch (args->auth_mode) {
	case HSF_AUTH_X509:
		if (nla_put_u32(answer, HSF_P_TLS_X509_CERT, args->certificate))
			return -EMSGSIZE;
		return nla_put_u32(answer, HSF_P_TLS_X509_PRIVKEY, args->private_key);
	case HSF_AUTH_PSK:
		return nla_put_u32(answer, HSF_P_TLS_PSK, args->peerids[0]);
	default:
		return 0;
	}
}

static int hsf_published_put_priorities(struct sk_buff *answer,
					const struct hsf_handshake_args *args)
{
	const char *priorities = args->priorities;

	if (!priorities[0] && args->protocol == HSF_PROTOCOL_TLSHD)
		priorities = HSF_DEFAULT_PRIORITIES;
	return priorities[0] ? nla_put_string(answer, HSF_P_TLS_PRIORITIES, priorities) : 0;
}

/* Seconds, of which there is no part: so the agent gives up before its consumer. */
static int hsf_published_put_timeout(struct sk_buff *answer, const struct hsf_handshake_args *args)
{
	u32 seconds = max(args->timeout_ms / MSEC_PER_SEC, 1);

	return args->timeout_ms ? nla_put_u32(answer, HSF_P_TLS_TIMEOUT, seconds) : 0;
}

static int hsf_published_put_further(struct sk_buff *answer, const struct hsf_handshake_args *args)
{
	if (args->peername[0] && nla_put_string(answer, HSF_P_PEERNAME, args->peername))
		return -EMSGSIZE;
	return args->keyring ? nla_put_u32(answer, HSF_P_KEYRING, args->keyring) : 0;
}

static int hsf_published_put_args(struct sk_buff *answer, int fd,
				  const struct hsf_handshake_args *args)
{
	if (nla_put_u32(answer, HSF_P_TLS_TYPE, args->message_type) ||
	    nla_put_u32(answer, HSF_P_TLS_AUTH, hsf_published_auth[args->auth_mode]) ||
	    hsf_published_put_keys(answer, args) ||
	    hsf_published_put_priorities(answer, args) ||
	    hsf_published_put_timeout(answer, args))
		return -EMSGSIZE;
	return hsf_published_put_further(answer, args);
}

static const struct nla_policy hsf_published_policy[HSF_P_PUBLISHED_MAX + 1] = {
	[HSF_P_TLS_TYPE]		= { .type = NLA_U32 },
	[HSF_P_TLS_AUTH]		= { .type = NLA_U32 },
	[HSF_P_TLS_PRIORITIES]		= { .type = NLA_STRING },
	[HSF_P_TLS_X509_CERT]		= { .type = NLA_U32 },
	[HSF_P_TLS_X509_PRIVKEY]	= { .type = NLA_U32 },
	[HSF_P_TLS_PSK]			= { .type = NLA_U32 },
	[HSF_P_TLS_SESS_STATUS]		= { .type = NLA_U32 },
	[HSF_P_TLS_PEERID]		= { .type = NLA_U32 },
	[HSF_P_TLS_TIMEOUT]		= { .type = NLA_U32 },
};

static int hsf_published_status(u32 status)
{
	switch (status) {
	case HSF_P_SESS_STATUS_OK:
		return 0;
	case HSF_P_SESS_STATUS_REJECTED:
		return -EACCES;
	default:
		return -EIO;
	}
}

static int hsf_published_parse(struct hsf_ending *ending, const struct nlattr *nest)
{
	struct nlattr *attrs[HSF_P_PUBLISHED_MAX + 1];
	struct hsf_handshake_outcome *outcome = &ending->outcome;

	if (hsf_parse_nest(attrs, HSF_P_PUBLISHED_MAX, nest, hsf_published_policy)) {
		outcome->args = NULL;
		return 0;	/* -EIO */
	}
	if (attrs[HSF_P_TLS_SESS_STATUS])
		outcome->status = hsf_published_status(nla_get_u32(attrs[HSF_P_TLS_SESS_STATUS]));
	if (attrs[HSF_P_TLS_PEERID])
		ending->peerids[0] = nla_get_u32(attrs[HSF_P_TLS_PEERID]);
	outcome->num_peerids = ending->peerids[0] ? 1 : 0;
	return 0;
}

const struct hsf_dialect hsf_published_dialect = {
	.check			= hsf_published_check,
	.put_head		= hsf_published_put_head,
	.put_args		= hsf_published_put_args,
	.parse			= hsf_published_parse,
	.close_may_succeed	= true,
};
