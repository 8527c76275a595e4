// SPDX-License-Identifier: GPL-2.0-only
/*
 * DONE: a handshake has ended.
 */
#include <linux/fdtable.h>
#include <linux/file.h>
#include <net/netlink.h>

#include "request.h"

static const struct nla_policy hsf_done_policy[HSF_A_DONE_MAX + 1] = {
	[HSF_A_DONE_STATUS]		= NLA_POLICY_MAX(NLA_U32, MAX_ERRNO),
	[HSF_A_DONE_SOCKFD]		= { .type = NLA_S32 },
	[HSF_A_DONE_REMOTE_AUTH]	= { .type = NLA_U32 },
};

/**
 * struct hsf_ending - what an agent says of a handshake
 * @outcome: what the consumer is told; -EIO where the agent says nothing
 * @fd: -1 where the arguments do not name it
 * @peerids: of @outcome
 */
struct hsf_ending {
	struct hsf_handshake_outcome outcome;
	int fd;
	key_serial_t peerids[HSF_PEERIDS_MAX];
};

/* Attributes that are neither the service's nor a mechanism's own are refused. */
static int hsf_parse_nest(struct nlattr **attrs, int max, const struct nlattr *nest,
			  const struct nla_policy *policy)
{
	const struct nlattr *attr;
	int rem;

	if (!(nest->nla_type & NLA_F_NESTED))
		return -EINVAL;
	nla_for_each_nested(attr, nest, rem)
		if (nla_type(attr) > max && nla_type(attr) < HSF_A_MECHANISM)
			return -EINVAL;
	return __nla_parse(attrs, max, nla_data(nest), nla_len(nest), policy,
			   NL_VALIDATE_STRICT & ~NL_VALIDATE_MAXTYPE, NULL);
}

static int hsf_parse_ending(struct hsf_ending *ending, const struct nlattr *nest)
{
	struct nlattr *attrs[HSF_A_DONE_MAX + 1], *attr;
	struct hsf_handshake_outcome *outcome = &ending->outcome;
	int rem;

	*ending = (struct hsf_ending){ .outcome.status = -EIO, .fd = -1 };
	outcome->peerids = ending->peerids;
	outcome->args = nest;
	if (!nest)
		return 0;
	if (hsf_parse_nest(attrs, HSF_A_DONE_MAX, nest, hsf_done_policy))
		return -EINVAL;
	if (attrs[HSF_A_DONE_STATUS])
		outcome->status = -(int)nla_get_u32(attrs[HSF_A_DONE_STATUS]);
	if (attrs[HSF_A_DONE_SOCKFD])
		ending->fd = nla_get_s32(attrs[HSF_A_DONE_SOCKFD]);
	nla_for_each_nested_type(attr, HSF_A_DONE_REMOTE_AUTH, nest, rem) {
		if (outcome->num_peerids == HSF_PEERIDS_MAX)
			return -EINVAL;
		ending->peerids[outcome->num_peerids++] = nla_get_u32(attr);
	}
	return 0;
}

/* The status to answer, HSF_STATUS_OK for silence.  The caller's file descriptor is closed then. */
static u32 hsf_end(struct nlattr **attrs)
{
	struct hsf_ending ending;
	struct hsf_request *req;
	struct file *file;

	if (hsf_parse_ending(&ending, attrs[HSF_A_DONE_ARGS]))
		return HSF_STATUS_INVAL;
	if (attrs[HSF_A_SOCKFD])
		ending.fd = nla_get_u32(attrs[HSF_A_SOCKFD]);
	file = ending.fd < 0 ? NULL : fget(ending.fd);
	if (!file)
		return HSF_STATUS_BADF;
	req = hsf_request_of_loan(file);
	if (!req) {
		fput(file);
		return HSF_STATUS_BADF;
	}
	if (attrs[HSF_A_PROTOCOL] && nla_get_u32(attrs[HSF_A_PROTOCOL]) != req->args.protocol) {
		fput(file);
		return HSF_STATUS_INVAL;
	}
	hsf_request_complete(req, &ending.outcome);
	fput(file);
	close_fd(ending.fd);
	return HSF_STATUS_OK;
}

/**
 * hsf_done - carry out HSF_MSG_DONE
 * @skb: the agent's message
 * @nlh: its header
 * @attrs: its attributes
 *
 * Return: 0 or a negative errno.
 */
int hsf_done(struct sk_buff *skb, const struct nlmsghdr *nlh, struct nlattr **attrs)
{
	u32 status = hsf_end(attrs);

	return status == HSF_STATUS_OK ? 0 : hsf_answer_status(skb, nlh, status);
}
