// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where requests are while they are not over: in their group's queue until an agent takes them,
 * and in their namespace's table, by their sock.
 *
 * Groups have nothing in common: each has its queue, its limits and its lock, so one that nobody
 * serves takes nothing from the others.  No operation walks what waits or what is lent.
 *
 * Locking: hsf_group.lock is a leaf, and nothing that sleeps or calls out happens under it.  The
 * table locks itself.
 *
 * A request enters the table before the queue, and leaves it after its state is HSF_OVER and
 * before its consumer is called: so a consumer may submit its socket again from its call-back, and
 * no socket has two requests.
 */
#include <linux/slab.h>

#include "request.h"

static const struct rhashtable_params hsf_table = {
	.key_len		= sizeof_field(struct hsf_request, sk),
	.key_offset		= offsetof(struct hsf_request, sk),
	.head_offset		= offsetof(struct hsf_request, hash),
	.automatic_shrinking	= true,
};

static void hsf_group_init(struct hsf_group *group)
{
	unsigned int i;

	spin_lock_init(&group->lock);
	for (i = 0; i < HSF_URGENCIES; i++)
		INIT_LIST_HEAD(&group->queued[i]);
}

/**
 * hsf_queues_create - prepare a namespace's groups and table
 * @hn: the namespace
 *
 * Return: 0 or a negative errno.
 */
int hsf_queues_create(struct hsf_net *hn)
{
	unsigned int i;
	int err;

	hn->groups = kvcalloc(hsf_protocols + 1, sizeof(*hn->groups), GFP_KERNEL_ACCOUNT);
	if (!hn->groups)
		return -ENOMEM;
	for (i = 1; i <= hsf_protocols; i++)
		hsf_group_init(&hn->groups[i]);
	err = rhashtable_init(&hn->requests, &hsf_table);
	if (err)
		kvfree(hn->groups);
	return err;
}

/**
 * hsf_queues_destroy - undo hsf_queues_create()
 * @hn: the namespace, in which there are no requests
 */
void hsf_queues_destroy(struct hsf_net *hn)
{
	WARN_ON_ONCE(atomic_read(&hn->requests.nelems));
	rhashtable_destroy(&hn->requests);
	kvfree(hn->groups);
}

static bool hsf_enqueue(struct hsf_group *group, struct hsf_request *req)
{
	u32 urgency = req->args.urgency;

	guard(spinlock)(&group->lock);
	if (group->num_queued >= READ_ONCE(hsf_limit))
		return false;
	list_add_tail(&req->node, &group->queued[urgency]);
	__set_bit(urgency, &group->waiting);
	group->num_queued++;
	return true;
}

static void hsf_dequeue(struct hsf_group *group, struct hsf_request *req)
{
	u32 urgency = req->args.urgency;

	lockdep_assert_held(&group->lock);
	list_del_init(&req->node);
	if (list_empty(&group->queued[urgency]))
		__clear_bit(urgency, &group->waiting);
	group->num_queued--;
}

/**
 * hsf_queue_insert - let a new request wait for an agent
 * @req: the request, HSF_QUEUED, with a reference for the service
 *
 * Return: 0; -EBUSY, its sock has a request; -EAGAIN, the queue is full; -ENOMEM.
 */
int hsf_queue_insert(struct hsf_request *req)
{
	struct rhashtable *requests = &hsf_net(req->net)->requests;
	int err = rhashtable_lookup_insert_fast(requests, &req->hash, hsf_table);

	if (err)
		return err == -EEXIST ? -EBUSY : -ENOMEM;
	if (hsf_enqueue(req->group, req))
		return 0;
	rhashtable_remove_fast(requests, &req->hash, hsf_table);
	return -EAGAIN;
}

/**
 * hsf_queue_next - take the next request of a protocol out of its queue
 * @hn: the namespace
 * @protocol: the protocol, which may be none
 *
 * Return: the request, HSF_LENT, with a reference for the caller, who lends its socket and
 * completes it, or calls hsf_loan_ended(); NULL: none waits, or the group's agents have as many
 * sockets as they may.
 */
struct hsf_request *hsf_queue_next(struct hsf_net *hn, u32 protocol)
{
	struct hsf_group *group;
	struct hsf_request *req;

	if (!protocol || protocol > hsf_protocols)
		return NULL;
	group = &hn->groups[protocol];
	guard(spinlock)(&group->lock);
	if (!group->waiting)
		return NULL;
	if (group->num_lent >= READ_ONCE(hsf_lent_limit)) {
		group->refused = true;
		return NULL;
	}
	req = list_first_entry(&group->queued[__fls(group->waiting)], struct hsf_request, node);
	hsf_dequeue(group, req);
	req->state = HSF_LENT;
	group->num_lent++;
	kref_get(&req->ref);
	return req;
}

/**
 * hsf_queue_remove - end a request
 * @req: the request
 * @also_lent: false: only if no agent has taken it
 *
 * Return: true: it was not over before, and the service's reference is the caller's to give up.
 */
bool hsf_queue_remove(struct hsf_request *req, bool also_lent)
{
	struct hsf_group *group = req->group;

	scoped_guard(spinlock, &group->lock) {
		if (req->state == HSF_OVER || (req->state == HSF_LENT && !also_lent))
			return false;
		if (req->state == HSF_QUEUED)
			hsf_dequeue(group, req);
		req->state = HSF_OVER;
	}
	rhashtable_remove_fast(&hsf_net(req->net)->requests, &req->hash, hsf_table);
	return true;
}

/**
 * hsf_queue_loan_ended - an agent has a socket less
 * @group: the socket's
 *
 * Return: true: an agent was refused for the limit, and should be told to ask again.
 */
bool hsf_queue_loan_ended(struct hsf_group *group)
{
	bool refused;

	guard(spinlock)(&group->lock);
	group->num_lent--;
	refused = group->refused;
	group->refused = false;
	return refused && group->waiting;
}

/**
 * hsf_queue_refused - an agent has not heard that there is room again
 * @group: the group
 */
void hsf_queue_refused(struct hsf_group *group)
{
	guard(spinlock)(&group->lock);
	group->refused = true;
}
