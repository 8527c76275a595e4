// SPDX-License-Identifier: GPL-2.0-only
/*
 * The service's messages: netlink family 23, a kernel socket in each network namespace.
 *
 * A message is carried out within the sendmsg() of the agent that sends it, hence with the agent's
 * file descriptor table and keyrings.  Several agents' messages may be carried out at once.
 *
 * Each message needs CAP_NET_ADMIN in the user namespace of the network namespace, of its sender
 * and of whoever opened the socket; joining a group needs the same (the core's own check).  So
 * nobody makes requests wait who cannot accept them.
 *
 * The service speaks through HSF_A_MSG_STATUS where it refuses something; what netlink itself
 * refuses (a missing capability, an unknown type or attribute) is an NLMSG_ERROR.
 */
#include <linux/capability.h>
#include <net/netlink.h>

#include "request.h"

/* Of both messages, and with what only the service sends. */
static const struct nla_policy hsf_policy[HSF_A_MAX + 1] = {
	[HSF_A_MSG_STATUS]	= { .type = NLA_U32 },
	[HSF_A_SOCKFD]		= { .type = NLA_U32 },
	[HSF_A_PROTOCOL]	= { .type = NLA_U32 },
	[HSF_A_ACCEPT_RESP]	= { .type = NLA_NESTED },
	[HSF_A_DONE_ARGS]	= { .type = NLA_NESTED },
};

/**
 * struct hsf_audience - who hears of a request
 * @net: the request's namespace
 * @silent: nobody is to be told
 * @any: the group has a member there
 */
struct hsf_audience {
	const struct net *net;
	bool silent;
	bool any;
};

/* Is asked for each member: may it not have the message? */
static int hsf_hears(struct sock *member, struct sk_buff *skb, void *data)
{
	struct hsf_audience *audience = data;

	/* One that listens to all namespaces hears of this one's requests, and accepts none. */
	if (net_eq(sock_net(member), audience->net))
		audience->any = true;
	return audience->silent;
}

/*
 * netlink_has_listeners() counts the members of all namespaces, and what netlink_broadcast()
 * returns does not count those whose queue is full.
 */
static int hsf_broadcast(struct hsf_net *hn, u32 protocol, bool silent, gfp_t gfp)
{
	struct hsf_audience audience = { .net = sock_net(hn->nlsk), .silent = silent };
	struct sk_buff *skb = nlmsg_new(0, gfp);

	if (!skb)
		return -ENOMEM;
	nlmsg_put(skb, 0, 0, HSF_MSG_READY, 0, 0);
	netlink_broadcast_filtered(hn->nlsk, skb, 0, protocol, gfp, hsf_hears, &audience);
	return audience.any ? 0 : -ESRCH;
}

/**
 * hsf_netlink_find_agent - would anybody hear of a request?
 * @hn: the namespace
 * @protocol: the protocol
 * @gfp: how to allocate memory
 *
 * Return: 0, -ESRCH or -ENOMEM.
 */
int hsf_netlink_find_agent(struct hsf_net *hn, u32 protocol, gfp_t gfp)
{
	return hsf_broadcast(hn, protocol, true, gfp);
}

/**
 * hsf_netlink_announce - READY to a protocol's group
 * @hn: the namespace
 * @protocol: the protocol
 * @gfp: how to allocate memory
 *
 * A member whose queue is full has announcements that it has not read, and will ask: that is no
 * failure.
 *
 * Return: 0, -ESRCH or -ENOMEM.
 */
int hsf_netlink_announce(struct hsf_net *hn, u32 protocol, gfp_t gfp)
{
	return hsf_broadcast(hn, protocol, false, gfp);
}

static struct hsf_net *hsf_net_of(const struct sk_buff *skb)
{
	return hsf_net(sock_net(skb->sk));
}

/**
 * hsf_answer - send an agent an answer
 * @skb: the agent's message
 * @answer: is consumed
 *
 * Return: 0 or a negative errno.
 */
int hsf_answer(struct sk_buff *skb, struct sk_buff *answer)
{
	return nlmsg_unicast(hsf_net_of(skb)->nlsk, answer, NETLINK_CB(skb).portid);
}

/**
 * hsf_answer_status - send an agent HSF_A_MSG_STATUS
 * @skb: the agent's message
 * @nlh: its header
 * @status: enum hsf_status
 *
 * Return: 0 or a negative errno.
 */
int hsf_answer_status(struct sk_buff *skb, const struct nlmsghdr *nlh, u32 status)
{
	struct sk_buff *answer = nlmsg_new(nla_total_size(sizeof(u32)), GFP_KERNEL);
	struct nlmsghdr *header;

	if (!answer)
		return -ENOMEM;
	header = nlmsg_put(answer, NETLINK_CB(skb).portid, nlh->nlmsg_seq, nlh->nlmsg_type, 0, 0);
	nla_put_u32(answer, HSF_A_MSG_STATUS, status);
	nlmsg_end(answer, header);
	return hsf_answer(skb, answer);
}

static int hsf_message(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	struct nlattr *attrs[HSF_A_MAX + 1];
	int err;

	if (!netlink_net_capable(skb, CAP_NET_ADMIN))
		return -EPERM;
	if (nlh->nlmsg_type != HSF_MSG_ACCEPT && nlh->nlmsg_type != HSF_MSG_DONE)
		return -EINVAL;
	err = nlmsg_parse(nlh, 0, attrs, HSF_A_MAX, hsf_policy, extack);
	if (err)
		return err;
	if (nlh->nlmsg_type == HSF_MSG_ACCEPT)
		return hsf_accept(skb, nlh, attrs);
	return hsf_done(skb, nlh, attrs);
}

static void hsf_input(struct sk_buff *skb)
{
	netlink_rcv_skb(skb, hsf_message);
}

/* The core has groups by the 32; a member of one that is nobody's would wait for ever. */
static int hsf_bind(struct net *net, int group)
{
	return group <= hsf_protocols ? 0 : -EINVAL;
}

/**
 * hsf_netlink_create - open the family in a namespace
 * @net: the namespace
 * @hn: ours; gets the socket, which netlink_kernel_release() ends
 *
 * Sockets of the family in user space hold the module.
 *
 * Return: 0 or -ENOMEM (also where somebody else has the family).
 */
int hsf_netlink_create(struct net *net, struct hsf_net *hn)
{
	struct netlink_kernel_cfg cfg = {
		.groups	= hsf_protocols,
		.input	= hsf_input,
		.bind	= hsf_bind,
	};

	hn->nlsk = netlink_kernel_create(net, HSF_NETLINK_FAMILY, &cfg);
	return hn->nlsk ? 0 : -ENOMEM;
}
