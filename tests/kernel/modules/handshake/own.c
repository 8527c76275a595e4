// SPDX-License-Identifier: GPL-2.0-only
/*
 * The project's own dialect: the nests hold the attribute sets of the kernel's handshake family,
 * with its numbers, and what that lacks behind them.
 */
#include <net/netlink.h>

#include "dialect.h"

static int hsf_own_check(const struct hsf_handshake_args *args)
{
	return 0;	/* all of it can be told */
}

static int hsf_own_put_head(struct sk_buff *answer, int fd, const struct hsf_handshake_args *args)
{
	if (nla_put_u32(answer, HSF_A_MSG_STATUS, HSF_STATUS_OK) ||
	    nla_put_u32(answer, HSF_A_SOCKFD, fd) ||
	    nla_put_u32(answer, HSF_A_PROTOCOL, args->protocol))
		return -EMSGSIZE;
	return 0;
}

static int hsf_put_certificate(struct sk_buff *answer, const struct hsf_handshake_args *args)
{
	struct nlattr *nest;

	if (!args->certificate && !args->private_key)
		return 0;
	nest = nla_nest_start(answer, HSF_A_ACCEPT_CERTIFICATE);
	if (!nest || nla_put_s32(answer, HSF_A_X509_CERT, args->certificate) ||
	    nla_put_s32(answer, HSF_A_X509_PRIVKEY, args->private_key))
		return -EMSGSIZE;
	nla_nest_end(answer, nest);
	return 0;
}

/* What is 0 or empty is left out, as the kernel's own service does. */
static int hsf_put_number(struct sk_buff *answer, int attribute, u32 value)
{
	return value ? nla_put_u32(answer, attribute, value) : 0;
}

static int hsf_put_text(struct sk_buff *answer, int attribute, const char *value)
{
	return value[0] ? nla_put_string(answer, attribute, value) : 0;
}

static int hsf_own_put_args(struct sk_buff *answer, int fd, const struct hsf_handshake_args *args)
{
	unsigned int i;

	if (nla_put_s32(answer, HSF_A_ACCEPT_SOCKFD, fd) ||
	    nla_put_u32(answer, HSF_A_ACCEPT_MESSAGE_TYPE, args->message_type) ||
	    nla_put_u32(answer, HSF_A_ACCEPT_AUTH_MODE, args->auth_mode) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_TIMEOUT, args->timeout_ms) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_KEYRING, args->keyring) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_URGENCY, args->urgency) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_HANDSHAKE_TYPE, args->handshake_type) ||
	    hsf_put_text(answer, HSF_A_ACCEPT_PEERNAME, args->peername) ||
	    hsf_put_text(answer, HSF_A_ACCEPT_TLS_PRIORITIES, args->priorities) ||
	    hsf_put_certificate(answer, args))
		return -EMSGSIZE;
	for (i = 0; i < args->num_peerids; i++)
		if (nla_put_u32(answer, HSF_A_ACCEPT_PEER_IDENTITY, args->peerids[i]))
			return -EMSGSIZE;
	return 0;
}

static const struct nla_policy hsf_done_policy[HSF_A_DONE_MAX + 1] = {
	[HSF_A_DONE_STATUS]		= NLA_POLICY_MAX(NLA_U32, MAX_ERRNO),
	[HSF_A_DONE_SOCKFD]		= { .type = NLA_S32 },
	[HSF_A_DONE_REMOTE_AUTH]	= { .type = NLA_U32 },
};

static int hsf_own_parse(struct hsf_ending *ending, const struct nlattr *nest)
{
	struct nlattr *attrs[HSF_A_DONE_MAX + 1], *attr;
	struct hsf_handshake_outcome *outcome = &ending->outcome;
	int rem;

	if (hsf_parse_nest(attrs, HSF_A_DONE_MAX, nest, hsf_done_policy))
		return -EINVAL;
	if (attrs[HSF_A_DONE_STATUS])
		outcome->status = -(int)nla_get_u32(attrs[HSF_A_DONE_STATUS]);
	nla_for_each_nested_type(attr, HSF_A_DONE_REMOTE_AUTH, nest, rem) {
		if (outcome->num_peerids == HSF_PEERIDS_MAX)
			return -EINVAL;
		ending->peerids[outcome->num_peerids++] = nla_get_u32(attr);
	}
	return 0;
}

const struct hsf_dialect hsf_own_dialect = {
	.check		= hsf_own_check,
	.put_head	= hsf_own_put_head,
	.put_args	= hsf_own_put_args,
	.parse		= hsf_own_parse,
	.sockfd_in_nest	= true,
	.checks_protocol = true,
};
