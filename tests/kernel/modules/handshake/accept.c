// SPDX-License-Identifier: GPL-2.0-only
/*
 * ACCEPT: the next request of a protocol, with its socket in the agent's file descriptor table.
 *
 * A request that cannot be handed over has ended with -EIO, and the agent hears
 * HSF_STATUS_SYSTEMFAULT.  So has, with -EOPNOTSUPP, one of which the dialect has no words: it was
 * submitted in another.
 */
#include <linux/file.h>
#include <linux/key.h>
#include <linux/keyctl.h>
#include <net/netlink.h>

#include "dialect.h"
#include "request.h"

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
	if (!header || req->dialect->put_head(answer, fd, &req->args))
		goto out_free;
	nest = nla_nest_start(answer, HSF_A_ACCEPT_RESP);
	if (!nest || req->dialect->put_args(answer, fd, &req->args) || hsf_put_own(answer, req))
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
	int err = req->dialect->check(&req->args);

	if (err) {
		hsf_loan_ended(req);
		return err;
	}
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
	struct hsf_net *hn = hsf_net(sock_net(skb->sk));
	struct hsf_request *req;
	int err;

	if (!attrs[HSF_A_PROTOCOL])
		return hsf_answer_status(skb, nlh, HSF_STATUS_INVAL);
	req = hsf_queue_next(hn, nla_get_u32(attrs[HSF_A_PROTOCOL]));
	if (!req)
		return hsf_answer_status(skb, nlh, HSF_STATUS_NOTREADY);
	req->dialect = hsf_dialect(hn);
	err = hsf_hand_over(skb, nlh, req);
	if (err) {
		hsf_request_end(req, err == -EOPNOTSUPP ? err : -EIO);
		err = hsf_answer_status(skb, nlh, HSF_STATUS_SYSTEMFAULT);
	}
	hsf_handshake_put(req);
	return err;
}
