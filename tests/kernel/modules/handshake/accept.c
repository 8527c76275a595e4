// SPDX-License-Identifier: GPL-2.0-only
/*
 * ACCEPT: the next request of a protocol, with its socket in the agent's file descriptor table.
 *
 * A request that cannot be handed over has ended with -EIO, and the agent hears
 * HSF_STATUS_SYSTEMFAULT.
 */
#include <linux/file.h>
#include <linux/key.h>
#include <linux/keyctl.h>
#include <net/netlink.h>

#include "request.h"

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

static int hsf_put_args(struct sk_buff *answer, int fd, const struct hsf_handshake_args *args)
{
	unsigned int i;

	if (nla_put_s32(answer, HSF_A_ACCEPT_SOCKFD, fd) ||
	    nla_put_u32(answer, HSF_A_ACCEPT_MESSAGE_TYPE, args->message_type) ||
	    nla_put_u32(answer, HSF_A_ACCEPT_AUTH_MODE, args->auth_mode) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_TIMEOUT, args->timeout_ms) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_KEYRING, args->keyring) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_PRIORITY, args->priority) ||
	    hsf_put_number(answer, HSF_A_ACCEPT_HANDSHAKE_TYPE, args->handshake_type) ||
	    hsf_put_text(answer, HSF_A_ACCEPT_PEERNAME, args->peername) ||
	    hsf_put_text(answer, HSF_A_ACCEPT_PRIORITIES, args->priorities) ||
	    hsf_put_certificate(answer, args))
		return -EMSGSIZE;
	for (i = 0; i < args->num_peerids; i++)
		if (nla_put_u32(answer, HSF_A_ACCEPT_PEER_IDENTITY, args->peerids[i]))
			return -EMSGSIZE;
	return 0;
}

/* What a mechanism has beside what all have. */
static int hsf_put_own(struct sk_buff *answer, const struct hsf_request *req)
{
	return req->ops->accept ? req->ops->accept(req->data, answer) : 0;
}

static struct sk_buff *hsf_accepted(struct sk_buff *skb, const struct nlmsghdr *nlh, int fd,
				    const struct hsf_request *req)
{
	struct sk_buff *answer = nlmsg_new(NLMSG_DEFAULT_SIZE, GFP_KERNEL);
	struct nlmsghdr *header;
	struct nlattr *nest;

	if (!answer)
		return ERR_PTR(-ENOMEM);
	header = nlmsg_put(answer, NETLINK_CB(skb).portid, nlh->nlmsg_seq, nlh->nlmsg_type, 0, 0);
	if (!header || nla_put_u32(answer, HSF_A_MSG_STATUS, HSF_STATUS_OK) ||
	    nla_put_u32(answer, HSF_A_SOCKFD, fd) ||
	    nla_put_u32(answer, HSF_A_PROTOCOL, req->args.protocol))
		goto out_free;
	nest = nla_nest_start(answer, HSF_A_ACCEPT_RESP);
	if (!nest || hsf_put_args(answer, fd, &req->args) || hsf_put_own(answer, req))
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
	if (fd < 0) {
		hsf_loan_ended(req);
		return fd;
	}
	file = hsf_lend(req);
	if (IS_ERR(file)) {
		hsf_loan_ended(req);
		return PTR_ERR(file);
	}
	answer = hsf_accepted(skb, nlh, fd, req);
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

/**
 * hsf_accept - carry out HSF_MSG_ACCEPT
 * @skb: the agent's message
 * @nlh: its header
 * @attrs: its attributes
 *
 * Return: 0 or a negative errno.
 */
int hsf_accept(struct sk_buff *skb, const struct nlmsghdr *nlh, struct nlattr **attrs)
{
	struct hsf_request *req;
	u32 protocol;
	int err;

	if (!attrs[HSF_A_PROTOCOL])
		return hsf_answer_status(skb, nlh, HSF_STATUS_INVAL);
	protocol = nla_get_u32(attrs[HSF_A_PROTOCOL]);
	if (!protocol || protocol > hsf_protocols)
		return hsf_answer_status(skb, nlh, HSF_STATUS_INVAL);
	req = hsf_queue_next(hsf_net(sock_net(skb->sk)), protocol);
	if (!req)
		return hsf_answer_status(skb, nlh, HSF_STATUS_NOTREADY);
	err = hsf_hand_over(skb, nlh, req);
	if (err) {
		hsf_request_fail(req, -EIO);
		err = hsf_answer_status(skb, nlh, HSF_STATUS_SYSTEMFAULT);
	}
	hsf_handshake_put(req);
	return err;
}
