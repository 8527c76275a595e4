// SPDX-License-Identifier: GPL-2.0-only
/*
 * The service's messages: netlink family 23, a kernel socket in each network namespace.
 *
 * A message is carried out within the sendmsg() of the agent that sends it, hence with the agent's
 * file descriptor table and keyrings.  Several agents' messages may be carried out at once.
 *
 * Each message needs CAP_NET_ADMIN in the initial user namespace, and so does joining a group (in
 * the user namespace of the network namespace: the core's own check).
 *
 * The service speaks through HSF_A_MSG_STATUS where it refuses something; what netlink itself
 * refuses (a missing capability, an unknown type) is an NLMSG_ERROR.
 */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fdtable.h>
#include <linux/key.h>
#include <linux/keyctl.h>
#include <net/netlink.h>

#include "request.h"

static const struct nla_policy hsf_policy[HSF_A_MAX + 1] = {
	[HSF_A_SOCKFD]		= { .type = NLA_U32 },
	[HSF_A_PROTOCOL]	= { .type = NLA_U32 },
	[HSF_A_DONE_ARGS]	= { .type = NLA_NESTED },
};

static const struct nla_policy hsf_done_policy[HSF_A_DONE_MAX + 1] = {
	[HSF_A_DONE_STATUS]		= NLA_POLICY_MAX(NLA_U32, MAX_ERRNO),
	[HSF_A_DONE_SOCKFD]		= { .type = NLA_S32 },
	[HSF_A_DONE_REMOTE_AUTH]	= { .type = NLA_U32 },
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

	/* One that listens to all namespaces hears of this one's requests, and cannot accept any. */
	if (net_eq(sock_net(member), audience->net))
		audience->any = true;
	return audience->silent;
}

/*
 * netlink_has_listeners() counts the members of all namespaces, and what netlink_broadcast() returns
 * does not count those whose queue is full.
 */
static int hsf_broadcast(struct hsf_net *hn, u32 protocol, bool silent)
{
	struct hsf_audience audience = { .net = sock_net(hn->nlsk), .silent = silent };
	struct sk_buff *skb = nlmsg_new(0, GFP_KERNEL);

	if (!skb)
		return -ENOMEM;
	nlmsg_put(skb, 0, 0, HSF_MSG_READY, 0, 0);
	netlink_broadcast_filtered(hn->nlsk, skb, 0, protocol, GFP_KERNEL, hsf_hears, &audience);
	return audience.any ? 0 : -ESRCH;
}

/**
 * hsf_netlink_find_agent - would anybody hear of a request?
 * @hn: the namespace
 * @protocol: the protocol
 *
 * Return: 0, -ESRCH or -ENOMEM.
 */
int hsf_netlink_find_agent(struct hsf_net *hn, u32 protocol)
{
	return hsf_broadcast(hn, protocol, true);
}

/**
 * hsf_netlink_announce - READY to a protocol's group
 * @hn: the namespace
 * @protocol: the protocol
 *
 * A member whose queue is full has announcements that it has not read, and will ask: that is no
 * failure.
 *
 * Return: 0, -ESRCH or -ENOMEM.
 */
int hsf_netlink_announce(struct hsf_net *hn, u32 protocol)
{
	return hsf_broadcast(hn, protocol, false);
}

static struct hsf_net *hsf_net_of(const struct sk_buff *skb)
{
	return hsf_net(sock_net(skb->sk));
}

static int hsf_answer(struct sk_buff *skb, struct sk_buff *answer)
{
	return nlmsg_unicast(hsf_net_of(skb)->nlsk, answer, NETLINK_CB(skb).portid);
}

static int hsf_answer_status(struct sk_buff *skb, const struct nlmsghdr *nlh, u32 status)
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

/* ACCEPT */

static int hsf_put_certificate(struct sk_buff *answer, const struct hsf_submission *args)
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

/* An attribute that is 0 is left out, as the kernel's own service does. */
static int hsf_put_number(struct sk_buff *answer, int attribute, u32 value)
{
	return value ? nla_put_u32(answer, attribute, value) : 0;
}

static int hsf_put_args(struct sk_buff *answer, int fd, const struct hsf_submission *args)
{
	unsigned int i;

	if (nla_put_s32(answer, HSF_A_ACCEPT_SOCKFD, fd) ||
	    nla_put_u32(answer, HSF_A_ACCEPT_MESSAGE_TYPE, args->message_type) ||
	    nla_put_u32(answer, HSF_A_ACCEPT_AUTH_MODE, args->auth_mode) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_TIMEOUT, args->timeout_ms) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_KEYRING, args->keyring) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_PRIORITY, args->priority) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_HANDSHAKE_TYPE, args->handshake_type) ||
	    hsf_put_certificate(answer, args))
		return -EMSGSIZE;
	for (i = 0; i < args->num_peerids; i++)
		if (nla_put_u32(answer, HSF_A_ACCEPT_PEER_IDENTITY, args->peerids[i]))
			return -EMSGSIZE;
	if (args->peername[0])
		return nla_put_string(answer, HSF_A_ACCEPT_PEERNAME, args->peername);
	return 0;
}

static struct sk_buff *hsf_accepted(struct sk_buff *skb, const struct nlmsghdr *nlh, int fd,
				    const struct hsf_submission *args)
{
	struct sk_buff *answer = nlmsg_new(NLMSG_DEFAULT_SIZE, GFP_KERNEL);
	struct nlmsghdr *header;
	struct nlattr *nest;

	if (!answer)
		return ERR_PTR(-ENOMEM);
	header = nlmsg_put(answer, NETLINK_CB(skb).portid, nlh->nlmsg_seq, nlh->nlmsg_type, 0, 0);
	if (!header || nla_put_u32(answer, HSF_A_MSG_STATUS, HSF_STATUS_OK) ||
	    nla_put_u32(answer, HSF_A_SOCKFD, fd) ||
	    nla_put_u32(answer, HSF_A_PROTOCOL, args->protocol))
		goto out_free;
	nest = nla_nest_start(answer, HSF_A_ACCEPT_RESP);
	if (!nest || hsf_put_args(answer, fd, args))
		goto out_free;
	nla_nest_end(answer, nest);
	nlmsg_end(answer, header);
	return answer;

out_free:
	nlmsg_free(answer);
	return ERR_PTR(-EMSGSIZE);
}

/* The agent gets the keyring as from the kernel's own service: linked into its process keyring. */
static int hsf_link_keyring(key_serial_t serial)
{
	key_ref_t process, keyring;
	int err;

	if (!serial)
		return 0;
	process = lookup_user_key(KEY_SPEC_PROCESS_KEYRING, KEY_LOOKUP_CREATE, KEY_NEED_WRITE);
	if (IS_ERR(process))
		return PTR_ERR(process);
	keyring = lookup_user_key(serial, KEY_LOOKUP_CREATE, KEY_NEED_LINK);
	if (IS_ERR(keyring)) {
		key_ref_put(process);
		return PTR_ERR(keyring);
	}
	err = key_link(key_ref_to_ptr(process), key_ref_to_ptr(keyring));
	key_ref_put(keyring);
	key_ref_put(process);
	return err;
}

static int hsf_hand_over(struct sk_buff *skb, const struct nlmsghdr *nlh, struct hsf_request *req)
{
	struct sk_buff *answer;
	struct file *file;
	int err;

	CLASS(get_unused_fd, fd)(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = hsf_lend(req);
	if (IS_ERR(file))
		return PTR_ERR(file);
	answer = hsf_accepted(skb, nlh, fd, &req->args);
	if (IS_ERR(answer)) {
		err = PTR_ERR(answer);
		goto out_fput;
	}
	err = hsf_link_keyring(req->args.keyring);
	if (err) {
		nlmsg_free(answer);
		goto out_fput;
	}
	err = hsf_answer(skb, answer);
	if (err)
		goto out_fput;
	fd_install(take_fd(fd), file);
	return 0;

out_fput:
	fput(file);
	return err;
}

static int hsf_accept(struct sk_buff *skb, const struct nlmsghdr *nlh, struct nlattr **attrs)
{
	struct hsf_request *req;
	u32 protocol;
	int err;

	if (!attrs[HSF_A_PROTOCOL])
		return hsf_answer_status(skb, nlh, HSF_STATUS_INVAL);
	protocol = nla_get_u32(attrs[HSF_A_PROTOCOL]);
	if (!protocol || protocol > hsf_protocols)
		return hsf_answer_status(skb, nlh, HSF_STATUS_INVAL);
	req = hsf_request_next(hsf_net_of(skb), protocol);
	if (!req)
		return hsf_answer_status(skb, nlh, HSF_STATUS_NOTREADY);
	err = hsf_hand_over(skb, nlh, req);
	if (err) {
		hsf_request_complete(req, -EIO, NULL, 0);
		err = hsf_answer_status(skb, nlh, HSF_STATUS_SYSTEMFAULT);
	}
	hsf_request_put(req);
	return err;
}

/* DONE */

/**
 * struct hsf_ending - what an agent says of a handshake
 * @status: a positive errno; EIO where the agent says nothing
 * @fd: -1 where the arguments do not name it
 * @num_peerids: how many of @peerids are used
 * @peerids: serials of keys
 */
struct hsf_ending {
	u32 status;
	int fd;
	unsigned int num_peerids;
	key_serial_t peerids[HSF_PEERIDS_MAX];
};

static int hsf_parse_ending(struct hsf_ending *ending, const struct nlattr *nest)
{
	struct nlattr *attrs[HSF_A_DONE_MAX + 1], *attr;
	int rem;

	*ending = (struct hsf_ending){ .status = EIO, .fd = -1 };
	if (!nest)
		return 0;
	if (nla_parse_nested(attrs, HSF_A_DONE_MAX, nest, hsf_done_policy, NULL))
		return -EINVAL;
	if (attrs[HSF_A_DONE_STATUS])
		ending->status = nla_get_u32(attrs[HSF_A_DONE_STATUS]);
	if (attrs[HSF_A_DONE_SOCKFD])
		ending->fd = nla_get_s32(attrs[HSF_A_DONE_SOCKFD]);
	nla_for_each_nested_type(attr, HSF_A_DONE_REMOTE_AUTH, nest, rem) {
		if (ending->num_peerids == HSF_PEERIDS_MAX)
			return -EINVAL;
		ending->peerids[ending->num_peerids++] = nla_get_u32(attr);
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
	hsf_request_complete(req, -(int)ending.status, ending.peerids, ending.num_peerids);
	fput(file);
	close_fd(ending.fd);
	return HSF_STATUS_OK;
}

static int hsf_done(struct sk_buff *skb, const struct nlmsghdr *nlh, struct nlattr **attrs)
{
	u32 status = hsf_end(attrs);

	return status == HSF_STATUS_OK ? 0 : hsf_answer_status(skb, nlh, status);
}

static int hsf_message(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	struct nlattr *attrs[HSF_A_MAX + 1];

	if (!netlink_capable(skb, CAP_NET_ADMIN))
		return -EPERM;
	if (nlh->nlmsg_type != HSF_MSG_ACCEPT && nlh->nlmsg_type != HSF_MSG_DONE)
		return -EOPNOTSUPP;
	if (nlmsg_parse(nlh, 0, attrs, HSF_A_MAX, hsf_policy, extack))
		return hsf_answer_status(skb, nlh, HSF_STATUS_INVAL);
	if (nlh->nlmsg_type == HSF_MSG_ACCEPT)
		return hsf_accept(skb, nlh, attrs);
	return hsf_done(skb, nlh, attrs);
}

static void hsf_input(struct sk_buff *skb)
{
	netlink_rcv_skb(skb, hsf_message);
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
	};

	hn->nlsk = netlink_kernel_create(net, HSF_NETLINK_FAMILY, &cfg);
	return hn->nlsk ? 0 : -ENOMEM;
}
