// SPDX-License-Identifier: GPL-2.0-only
/*
 * DONE: a handshake has ended.
 */
#include <linux/fdtable.h>
#include <linux/file.h>
#include <net/netlink.h>

#include "dialect.h"
#include "request.h"

/**
 * hsf_parse_nest - read ACCEPT_RESP or DONE_ARGS
 * @attrs: gets the attributes up to @max
 * @max: the highest attribute of the service's
 * @nest: the nest
 * @policy: of the service's attributes
 *
 * A mechanism's own attributes are let pass.
 *
 * Return: 0, or -EINVAL for anything else that is not in @policy.
 */
int hsf_parse_nest(struct nlattr **attrs, int max, const struct nlattr *nest,
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

/* The attribute with the descriptor that a DONE names; NULL: there is none. */
static const struct nlattr *hsf_done_fd(struct nlattr **attrs)
{
	const struct nlattr *nest = attrs[HSF_A_DONE_ARGS], *fd = attrs[HSF_A_SOCKFD];

	if (!fd && nest)
		fd = nla_find(nla_data(nest), nla_len(nest), HSF_A_DONE_SOCKFD);
	return fd && nla_len(fd) == sizeof(u32) ? fd : NULL;
}

/* The status to answer, HSF_STATUS_OK for silence. */
static u32 hsf_end_request(struct hsf_request *req, struct nlattr **attrs)
{
	const struct nlattr *nest = attrs[HSF_A_DONE_ARGS], *protocol = attrs[HSF_A_PROTOCOL];
	struct hsf_ending ending = { .outcome.status = -EIO, .outcome.args = nest };

	ending.outcome.peerids = ending.peerids;
	if (!attrs[HSF_A_SOCKFD] && !req->dialect->sockfd_in_nest)
		return HSF_STATUS_INVAL;
	if (req->dialect->checks_protocol && protocol &&
	    nla_get_u32(protocol) != req->args.protocol)
		return HSF_STATUS_INVAL;
	if (nest && req->dialect->parse(&ending, nest))
		return HSF_STATUS_INVAL;
	hsf_request_complete(req, &ending.outcome);
	return HSF_STATUS_OK;
}

/* The same; the caller's file descriptor is closed then. */
static u32 hsf_end(struct nlattr **attrs)
{
	const struct nlattr *named = hsf_done_fd(attrs);
	u32 status = HSF_STATUS_BADF;
	struct hsf_request *req;
	struct file *file;
	u32 fd;

	if (!named)
		return HSF_STATUS_INVAL;
	fd = nla_get_u32(named);	/* any number, of which most are not open */
	file = fget(fd);
	if (!file)
		return HSF_STATUS_BADF;
	req = hsf_request_of_loan(file);
	if (req)
		status = hsf_end_request(req, attrs);
	fput(file);
	if (status == HSF_STATUS_OK)
		close_fd(fd);
	return status;
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
