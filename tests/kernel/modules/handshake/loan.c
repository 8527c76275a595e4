// SPDX-License-Identifier: GPL-2.0-only
/*
 * The socket that an agent is lent.
 *
 * An agent gets a file of its own for the consumer's connection, and not the consumer's file: its
 * last close is then seen, whoever else has the connection open, and ends the request.  The file
 * is an ordinary socket's, of a struct socket that has the same struct sock as the consumer's and
 * passes every call on to the consumer's struct socket.  So polling waits where the connection
 * wakes, and what a call changes in the consumer's struct socket (TLS replaces its operations) is
 * changed where the consumer sees it.  O_NONBLOCK, which a file has, is the agent's own.
 *
 * Copies (dup, SCM_RIGHTS, fork) are copies of the same file: the request ends with the last one.
 *
 * Lifetime: a loan holds its request, hence the consumer's file, and the module.  Its proto_ops are
 * part of it, which is how it is found from its socket; __sock_release() has read the last of them
 * when it calls ->release(), where the loan is freed.  The address family there is none, so that
 * nobody takes the socket of an AF_UNIX connection for one of af_unix's own.  (So its collector
 * does not see a loan that was sent over the very connection that is lent.)
 */
#include <linux/module.h>
#include <linux/net.h>
#include <linux/slab.h>

#include "dialect.h"
#include "request.h"

struct hsf_loan {
	struct proto_ops ops;
	struct hsf_request *req;
};

static int hsf_loan_release(struct socket *sock);

static struct hsf_loan *hsf_loan(const struct socket *sock)
{
	return container_of(READ_ONCE(sock->ops), struct hsf_loan, ops);
}

/* The consumer's; its operations may change while it is lent. */
static struct socket *hsf_lender(const struct socket *sock)
{
	return hsf_loan(sock)->req->sock;
}

static const struct proto_ops *hsf_ops(const struct socket *sock)
{
	return READ_ONCE(sock->ops);
}

static int hsf_loan_getname(struct socket *sock, struct sockaddr *addr, int peer)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->getname(lender, addr, peer);
}

static __poll_t hsf_loan_poll(struct file *file, struct socket *sock, poll_table *wait)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->poll(file, lender, wait);
}

static int hsf_loan_ioctl(struct socket *sock, unsigned int cmd, unsigned long arg)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->ioctl(lender, cmd, arg);
}

static int hsf_loan_shutdown(struct socket *sock, int how)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->shutdown(lender, how);
}

static int hsf_loan_setsockopt(struct socket *sock, int level, int name, sockptr_t value,
			       unsigned int length)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->setsockopt(lender, level, name, value, length);
}

static int hsf_loan_getsockopt(struct socket *sock, int level, int name, char __user *value,
			       int __user *length)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->getsockopt(lender, level, name, value, length);
}

static int hsf_loan_getsockopt_iter(struct socket *sock, int level, int name, sockopt_t *option)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->getsockopt_iter(lender, level, name, option);
}

static int hsf_loan_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->sendmsg(lender, msg, size);
}

static int hsf_loan_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
{
	struct socket *lender = hsf_lender(sock);

	return hsf_ops(lender)->recvmsg(lender, msg, size, flags);
}

static const struct proto_ops hsf_loan_ops = {
	.family		= PF_UNSPEC,
	.owner		= THIS_MODULE,
	.release	= hsf_loan_release,
	.bind		= sock_no_bind,
	.connect	= sock_no_connect,
	.socketpair	= sock_no_socketpair,
	.accept		= sock_no_accept,
	.listen		= sock_no_listen,
	.mmap		= sock_no_mmap,
	.getname	= hsf_loan_getname,
	.poll		= hsf_loan_poll,
	.ioctl		= hsf_loan_ioctl,
	.shutdown	= hsf_loan_shutdown,
	.sendmsg	= hsf_loan_sendmsg,
	.recvmsg	= hsf_loan_recvmsg,
};

/* What the lender does not have, the loan has not either: the core looks for these. */
static void hsf_loan_set_ops(struct hsf_loan *loan)
{
	const struct proto_ops *theirs = hsf_ops(loan->req->sock);

	loan->ops = hsf_loan_ops;
	if (theirs->setsockopt)
		loan->ops.setsockopt = hsf_loan_setsockopt;
	if (theirs->getsockopt)
		loan->ops.getsockopt = hsf_loan_getsockopt;
	if (theirs->getsockopt_iter)
		loan->ops.getsockopt_iter = hsf_loan_getsockopt_iter;
	loan->ops.gettstamp = theirs->gettstamp;	/* asks the sock alone */
}

/* What is true of a request whose agent has closed its last copy, and said nothing. */
static int hsf_status_of_close(struct hsf_request *req)
{
	const struct hsf_handshake_ops *ops = req->ops;

	if (req->dialect->close_may_succeed && ops->established &&
	    ops->established(req->data, req->sk))
		return 0;
	return -EIO;
}

/* The last copy is closed.  The sock is not ours to release. */
static int hsf_loan_release(struct socket *sock)
{
	struct hsf_loan *loan = hsf_loan(sock);

	if (!hsf_request_is_over(loan->req))
		hsf_request_end(loan->req, hsf_status_of_close(loan->req));
	hsf_loan_ended(loan->req);
	hsf_handshake_put(loan->req);
	kfree(loan);
	return 0;
}

/**
 * hsf_loan_ended - an agent has a socket less, or does not get the one that it should have
 * @req: the socket's request, of which the caller holds a reference
 *
 * Where an agent was told that nothing waits because of the limit, it hears of it; where nobody can
 * be told, for want of memory or of members, whoever is there when the next socket comes back.
 */
void hsf_loan_ended(struct hsf_request *req)
{
	if (hsf_queue_loan_ended(req->group) &&
	    hsf_netlink_announce(hsf_net(req->net), req->args.protocol, GFP_KERNEL))
		hsf_queue_refused(req->group);
}

/**
 * hsf_lend - make the file that an agent gets
 * @req: the request; the loan takes a reference of its own
 *
 * When the file's last reference goes, the request is ended if it is not over, with -EIO or as its
 * dialect has it, and the group's agents have a socket less.
 *
 * Return: the file, or -ENOMEM or -ENFILE.
 */
struct file *hsf_lend(struct hsf_request *req)
{
	struct hsf_loan *loan = kzalloc_obj(*loan);
	struct socket *sock;
	struct file *file;

	if (!loan)
		return ERR_PTR(-ENOMEM);
	sock = sock_alloc();
	if (!sock) {
		kfree(loan);
		return ERR_PTR(-ENFILE);
	}
	file = sock_alloc_file(sock, O_CLOEXEC, "handshake");
	if (IS_ERR(file)) {	/* it has released the socket */
		kfree(loan);
		return file;
	}
	kref_get(&req->ref);
	loan->req = req;
	hsf_loan_set_ops(loan);
	__module_get(THIS_MODULE);
	sock->type = req->sock->type;
	sock->state = READ_ONCE(req->sock->state);
	if (test_bit(SOCK_CUSTOM_SOCKOPT, &req->sock->flags))
		set_bit(SOCK_CUSTOM_SOCKOPT, &sock->flags);
	sock->sk = req->sock->sk;
	WRITE_ONCE(sock->ops, &loan->ops);
	return file;
}

/**
 * hsf_request_of_loan - the request of a file that was lent
 * @file: any file, held by the caller
 *
 * Return: the request, for as long as the caller holds @file; NULL: the file is no loan.
 */
struct hsf_request *hsf_request_of_loan(struct file *file)
{
	struct socket *sock = sock_from_file(file);

	if (!sock || hsf_ops(sock)->release != hsf_loan_release)
		return NULL;
	return hsf_loan(sock)->req;
}
