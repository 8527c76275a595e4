/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef HSF_REQUEST_H
#define HSF_REQUEST_H

#include <linux/fs.h>
#include <linux/key.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include <uapi/hsframework/handshake.h>

struct hsf_request;

/**
 * typedef hsf_done_t - tells a consumer how its request ended
 * @data: the consumer's own
 * @status: 0 or a negative errno
 * @peerids: serials of the keys that tell who the peer is
 * @num_peerids: how many
 *
 * Called once, in process context, without a lock; not after hsf_request_cancel() returned true.
 */
typedef void (*hsf_done_t)(void *data, int status, const key_serial_t *peerids,
			   unsigned int num_peerids);

/**
 * struct hsf_net - a network namespace
 * @nlsk: the kernel's socket of the family
 * @queued: requests that wait, the next one first
 * @lent: requests that agents have accepted, in no order
 * @num_queued: how many are in @queued
 */
struct hsf_net {
	struct sock *nlsk;
	struct list_head queued;
	struct list_head lent;
	unsigned int num_queued;
};

enum hsf_state {
	HSF_QUEUED,
	HSF_LENT,
	HSF_OVER,
};

/**
 * struct hsf_request - a socket that waits for its handshake, or has it
 * @ref: held by the list that the request is in, by its consumer and by its loan
 * @node: in a list of @hn, unless @state is HSF_OVER
 * @hn: the socket's namespace; not to be used once @state is HSF_OVER
 * @state: under hsf_lock
 * @file: the consumer's; held until the last reference to the request goes
 * @sock: of @file
 * @args: what the agent is told
 * @done: the consumer's function
 * @data: the consumer's own
 */
struct hsf_request {
	struct kref ref;
	struct list_head node;
	struct hsf_net *hn;
	enum hsf_state state;
	struct file *file;
	struct socket *sock;
	struct hsf_submission args;
	hsf_done_t done;
	void *data;
};

extern unsigned int hsf_protocols;
extern unsigned int hsf_limit;

void hsf_queue_init(struct hsf_net *hn);
struct hsf_request *hsf_request_submit(struct file *file, const struct hsf_submission *args,
				       hsf_done_t done, void *data);
bool hsf_request_cancel(struct hsf_request *req);
struct hsf_request *hsf_request_next(struct hsf_net *hn, u32 protocol);
bool hsf_request_complete(struct hsf_request *req, int status, const key_serial_t *peerids,
			  unsigned int num_peerids);
void hsf_request_put(struct hsf_request *req);

struct file *hsf_lend(struct hsf_request *req);
struct hsf_request *hsf_request_of_loan(struct file *file);

struct hsf_net *hsf_net(struct net *net);
int hsf_netlink_create(struct net *net, struct hsf_net *hn);
int hsf_netlink_find_agent(struct hsf_net *hn, u32 protocol);
int hsf_netlink_announce(struct hsf_net *hn, u32 protocol);

int hsf_device_register(void);
void hsf_device_deregister(void);

#endif /* HSF_REQUEST_H */
