// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a request, and the consumer's side of the service.
 *
 *		hsf_queue_next()	     hsf_request_complete()
 *	HSF_QUEUED ------------> HSF_LENT ----------------------> HSF_OVER
 *	     |			    |	  hsf_handshake_cancel()     ^
 *	     +----------------------+--------------------------------+
 *
 * Completion: whoever moves a request to HSF_OVER, under its group's lock, has ended it, and calls
 * its consumer or (cancel) does not.  Nobody moves it from there, so there is one completion.
 *
 * Lifetime: a request is counted.  It holds its consumer's file, hence the socket; the socket's
 * network namespace, so no namespace goes away with requests in it; and the consumer's module.
 * Neither does this module go: a consumer uses its symbols, a loan is a socket of its.
 */
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "dialect.h"
#include "request.h"

/* Nobody else has a reference, or reads the table under RCU. */
static void hsf_request_destroy(struct hsf_request *req)
{
	struct module *owner = req->ops->owner;

	fput(req->file);
	put_net(req->net);
	kfree_rcu(req, rcu);
	module_put(owner);
}

static void hsf_request_free(struct kref *ref)
{
	struct hsf_request *req = container_of(ref, struct hsf_request, ref);

	if (req->ops->release)
		req->ops->release(req->data);
	hsf_request_destroy(req);
}

/**
 * hsf_handshake_put - give up a reference to a request
 * @req: the request
 */
void hsf_handshake_put(struct hsf_request *req)
{
	kref_put(&req->ref, hsf_request_free);
}
EXPORT_SYMBOL_GPL(hsf_handshake_put);

static bool hsf_is_short(const char *text, size_t size)
{
	return !text || strnlen(text, size) < size;
}

static bool hsf_args_valid(const struct hsf_handshake_args *args)
{
	return args->protocol && args->protocol <= hsf_protocols &&
	       (args->message_type == HSF_CLIENT_HELLO || args->message_type == HSF_SERVER_HELLO) &&
	       args->auth_mode >= HSF_AUTH_UNAUTH && args->auth_mode <= HSF_AUTH_X509 &&
	       args->urgency <= HSF_URGENCY_MAX &&
	       args->handshake_type <= HSF_HANDSHAKE_MAX &&
	       args->num_peerids <= HSF_PEERIDS_MAX &&
	       hsf_is_short(args->peername, HSF_PEERNAME_SIZE) &&
	       hsf_is_short(args->priorities, HSF_PRIORITIES_SIZE);
}

static void hsf_copy_args(struct hsf_request *req, const struct hsf_handshake_args *args)
{
	req->args = *args;
	strscpy(req->peername, args->peername ?: "");
	strscpy(req->priorities, args->priorities ?: "");
	req->args.peername = req->peername;
	req->args.priorities = req->priorities;
}

static struct hsf_request *hsf_request_alloc(struct socket *sock,
					     const struct hsf_handshake_ops *ops,
					     const struct hsf_handshake_args *args, void *data,
					     gfp_t gfp)
{
	struct hsf_request *req = kzalloc_obj(*req, gfp);
	int err = -ENODEV;

	if (!req)
		return ERR_PTR(-ENOMEM);
	if (!try_module_get(ops->owner))
		goto out_free;
	err = -ESRCH;
	req->net = maybe_get_net(sock_net(sock->sk));
	if (!req->net)
		goto out_module;
	kref_init(&req->ref);
	INIT_LIST_HEAD(&req->node);
	req->file = get_file(sock->file);
	req->sock = sock;
	req->sk = sock->sk;
	req->group = &hsf_net(req->net)->groups[args->protocol];
	hsf_copy_args(req, args);
	req->ops = ops;
	req->data = data;
	return req;

out_module:
	module_put(ops->owner);
out_free:
	kfree(req);
	return ERR_PTR(err);
}

/* An error: nobody else has the request. */
static int hsf_request_start(struct hsf_request *req, gfp_t gfp)
{
	struct hsf_net *hn = hsf_net(req->net);
	int err = hsf_netlink_find_agent(hn, req->args.protocol, gfp);

	if (err)
		return err;
	kref_get(&req->ref);	/* the service's */
	err = hsf_queue_insert(req);
	if (err)
		return err;
	err = hsf_netlink_announce(hn, req->args.protocol, gfp);
	/* An agent may have taken it all the same: then what happens to it counts. */
	return err && hsf_queue_remove(req, false) ? err : 0;
}

/**
 * hsf_handshake_submit - ask for a handshake
 * @sock: a socket that has a file (sock_alloc_file()); agents of its namespace are asked
 * @ops: the consumer's functions, which are there for as long as its module is
 * @args: what the agent is told; copied
 * @data: for @ops
 * @gfp: how to allocate memory
 *
 * The consumer leaves the socket alone until its request is over.  There is no timer: the consumer
 * has one of its own, and calls hsf_handshake_cancel() when it fires.  For process context, as all
 * that is exported here: call-backs of a sock and timers schedule work.  May sleep if @gfp may;
 * @ops may be called before this returns.
 *
 * Return: the request, with a reference for the caller, or an error, after which nothing in @ops is
 * called: -ESRCH, nobody listens; -EAGAIN, too many wait; -EBUSY, the socket has a request already;
 * -ENOTSOCK, it was lent to an agent; -EINVAL, it has no file, or @args are wrong; -EOPNOTSUPP, the
 * service cannot tell an agent of @args; -ENOMEM; -ENODEV, the consumer's module goes.
 */
struct hsf_request *hsf_handshake_submit(struct socket *sock, const struct hsf_handshake_ops *ops,
					 const struct hsf_handshake_args *args, void *data,
					 gfp_t gfp)
{
	struct hsf_request *req;
	int err;

	if (!sock->file || !sock->sk || !hsf_args_valid(args))
		return ERR_PTR(-EINVAL);
	if (hsf_request_of_loan(sock->file))
		return ERR_PTR(-ENOTSOCK);
	err = hsf_dialect(hsf_net(sock_net(sock->sk)))->check(args);
	if (err)
		return ERR_PTR(err);
	req = hsf_request_alloc(sock, ops, args, data, gfp);
	if (IS_ERR(req))
		return req;
	err = hsf_request_start(req, gfp);
	if (err) {
		hsf_request_destroy(req);
		return ERR_PTR(err);
	}
	return req;
}
EXPORT_SYMBOL_GPL(hsf_handshake_submit);

/**
 * hsf_handshake_cancel - withdraw a request
 * @req: the request, of which the caller holds a reference
 *
 * The agent that has the socket keeps its loan, which ends the connection for nobody.
 *
 * Return: true, and hsf_handshake_ops.done is not called any more; false, and it was called, or is
 * just now.
 */
bool hsf_handshake_cancel(struct hsf_request *req)
{
	if (!hsf_queue_remove(req, true))
		return false;
	hsf_handshake_put(req);	/* the service's */
	return true;
}
EXPORT_SYMBOL_GPL(hsf_handshake_cancel);

/**
 * hsf_request_complete - end a request and tell its consumer
 * @req: the request, of which the caller holds a reference
 * @outcome: what the consumer is told
 *
 * Return: true, or false if the request was over already, which changes nothing.
 */
bool hsf_request_complete(struct hsf_request *req, const struct hsf_handshake_outcome *outcome)
{
	if (!hsf_queue_remove(req, true))
		return false;
	req->ops->done(req->data, outcome);
	hsf_handshake_put(req);	/* the service's */
	return true;
}

/**
 * hsf_request_is_over - has a request ended?
 * @req: the request
 *
 * Return: true: it has.
 */
bool hsf_request_is_over(const struct hsf_request *req)
{
	guard(spinlock)(&req->group->lock);
	return req->state == HSF_OVER;
}

/**
 * hsf_request_end - end a request without a word of its agent's
 * @req: the request, of which the caller holds a reference
 * @status: 0 or a negative errno
 *
 * Return: as hsf_request_complete().
 */
bool hsf_request_end(struct hsf_request *req, int status)
{
	struct hsf_handshake_outcome outcome = { .status = status };

	return hsf_request_complete(req, &outcome);
}
