// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a request.
 *
 *		hsf_request_next()	     hsf_request_complete()
 *	HSF_QUEUED ------------> HSF_LENT ----------------------> HSF_OVER
 *	     |			    |	  hsf_request_cancel()	     ^
 *	     +----------------------+--------------------------------+
 *
 * Locking: hsf_lock covers the lists of every namespace and the state of every request.  It is a
 * leaf, and nothing that sleeps or calls out happens under it.
 *
 * Completion: whoever moves a request to HSF_OVER, under the lock, has ended it, and calls its
 * consumer or (cancel) does not.  Nobody moves it from there, so there is one completion.
 *
 * Lifetime: a request is counted.  It holds its consumer's file, hence the socket, hence the
 * network namespace of the socket; so no namespace goes away with requests in its lists.  Its
 * consumer and its loan each hold the module too, so that neither does the module.
 */
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "request.h"

static DEFINE_SPINLOCK(hsf_lock);

/**
 * hsf_queue_init - prepare a namespace's lists
 * @hn: the namespace
 */
void hsf_queue_init(struct hsf_net *hn)
{
	INIT_LIST_HEAD(&hn->queued);
	INIT_LIST_HEAD(&hn->lent);
	hn->num_queued = 0;
}

static void hsf_request_free(struct kref *ref)
{
	struct hsf_request *req = container_of(ref, struct hsf_request, ref);

	fput(req->file);
	kfree(req);
}

/**
 * hsf_request_put - give up a reference
 * @req: the request
 */
void hsf_request_put(struct hsf_request *req)
{
	kref_put(&req->ref, hsf_request_free);
}

/* Is there a request on this very socket?  Loans have a socket of their own, but the same sock. */
static bool hsf_under_way(struct hsf_net *hn, const struct sock *sk)
{
	struct hsf_request *other;

	lockdep_assert_held(&hsf_lock);
	list_for_each_entry(other, &hn->queued, node)
		if (other->sock->sk == sk)
			return true;
	list_for_each_entry(other, &hn->lent, node)
		if (other->sock->sk == sk)
			return true;
	return false;
}

/* Before the first of a lower priority: among equals, first come is first served. */
static void hsf_enqueue(struct hsf_request *req)
{
	struct hsf_request *other;

	lockdep_assert_held(&hsf_lock);
	list_for_each_entry(other, &req->hn->queued, node)
		if (other->args.priority < req->args.priority)
			break;
	/* Past the last one, &other->node is the list's head. */
	list_add_tail(&req->node, &other->node);
	req->hn->num_queued++;
}

static int hsf_request_insert(struct hsf_request *req)
{
	int err = 0;

	spin_lock(&hsf_lock);
	if (hsf_under_way(req->hn, req->sock->sk))
		err = -EBUSY;
	else if (req->hn->num_queued >= READ_ONCE(hsf_limit))
		err = -EAGAIN;
	else
		hsf_enqueue(req);
	spin_unlock(&hsf_lock);
	return err;
}

static struct hsf_request *hsf_request_alloc(struct file *file, const struct hsf_submission *args,
					     hsf_done_t done, void *data)
{
	struct hsf_request *req = kzalloc(sizeof(*req), GFP_KERNEL);

	if (!req)
		return NULL;
	kref_init(&req->ref);
	INIT_LIST_HEAD(&req->node);
	req->file = get_file(file);
	req->sock = sock_from_file(file);
	req->hn = hsf_net(sock_net(req->sock->sk));
	req->args = *args;
	req->done = done;
	req->data = data;
	return req;
}

/**
 * hsf_request_submit - ask for a handshake
 * @file: a socket's; its namespace's agents are asked
 * @args: checked by the caller
 * @done: called when the request is over, unless it is cancelled
 * @data: for @done
 *
 * May sleep.  @done may be called before this returns.
 *
 * Return: the request, with a reference that is the caller's, or an error: -ESRCH, nobody listens;
 * -EAGAIN, too many wait; -EBUSY, the socket has a request already; -ENOMEM.
 */
struct hsf_request *hsf_request_submit(struct file *file, const struct hsf_submission *args,
				       hsf_done_t done, void *data)
{
	struct hsf_request *req;
	int err;

	req = hsf_request_alloc(file, args, done, data);
	if (!req)
		return ERR_PTR(-ENOMEM);
	err = hsf_netlink_find_agent(req->hn, args->protocol);
	if (err)
		goto out_put;
	kref_get(&req->ref);	/* the list's */
	err = hsf_request_insert(req);
	if (err)
		goto out_put_both;
	err = hsf_netlink_announce(req->hn, args->protocol);
	/* It may have been accepted all the same: then what happens to it counts. */
	if (err && hsf_request_cancel(req))
		goto out_put;
	return req;

out_put_both:
	hsf_request_put(req);
out_put:
	hsf_request_put(req);
	return ERR_PTR(err);
}

/* End a request.  True: it was not over before, and the caller has ended it. */
static bool hsf_request_end(struct hsf_request *req)
{
	bool ended;

	spin_lock(&hsf_lock);
	ended = req->state != HSF_OVER;
	if (ended) {
		if (req->state == HSF_QUEUED)
			req->hn->num_queued--;
		list_del_init(&req->node);
		req->state = HSF_OVER;
	}
	spin_unlock(&hsf_lock);
	return ended;
}

/**
 * hsf_request_cancel - withdraw a request
 * @req: the request, of which the caller holds a reference
 *
 * The agent that has the socket keeps its loan.
 *
 * Return: true, and the consumer is not called any more; false, and it was called, or is just now.
 */
bool hsf_request_cancel(struct hsf_request *req)
{
	if (!hsf_request_end(req))
		return false;
	hsf_request_put(req);	/* the list's */
	return true;
}

/**
 * hsf_request_complete - end a request and tell its consumer
 * @req: the request, of which the caller holds a reference
 * @status: 0 or a negative errno
 * @peerids: serials of keys
 * @num_peerids: how many
 *
 * Return: true, or false if the request was over already, which changes nothing.
 */
bool hsf_request_complete(struct hsf_request *req, int status, const key_serial_t *peerids,
			  unsigned int num_peerids)
{
	if (!hsf_request_end(req))
		return false;
	req->done(req->data, status, peerids, num_peerids);
	hsf_request_put(req);	/* the list's */
	return true;
}

/**
 * hsf_request_next - take the next request of a protocol out of the queue
 * @hn: the namespace
 * @protocol: the protocol
 *
 * Return: the request with a reference that is the caller's, who is to complete it; NULL: none
 * waits.
 */
struct hsf_request *hsf_request_next(struct hsf_net *hn, u32 protocol)
{
	struct hsf_request *req, *found = NULL;

	spin_lock(&hsf_lock);
	list_for_each_entry(req, &hn->queued, node) {
		if (req->args.protocol != protocol)
			continue;
		found = req;
		kref_get(&found->ref);
		found->state = HSF_LENT;
		list_move(&found->node, &hn->lent);
		hn->num_queued--;
		break;
	}
	spin_unlock(&hsf_lock);
	return found;
}
