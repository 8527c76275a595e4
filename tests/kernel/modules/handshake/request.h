/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef HSF_REQUEST_H
#define HSF_REQUEST_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/rcupdate.h>
#include <linux/rhashtable.h>
#include <linux/spinlock.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include <hsframework/handshake.h>

struct ctl_table_header;
struct hsf_dialect;

#define HSF_URGENCIES	(HSF_URGENCY_MAX + 1)

/**
 * struct hsf_group - a protocol in a network namespace
 * @lock: covers what follows, and the state of the group's requests
 * @queued: requests that wait, by their urgency, each list the next one first
 * @waiting: the bit of each list of @queued that is not empty
 * @num_queued: how many requests wait
 * @num_lent: how many sockets agents have
 * @refused: an agent was given nothing since @num_lent was at its limit
 */
struct hsf_group {
	spinlock_t lock;	/* see above */
	struct list_head queued[HSF_URGENCIES];
	unsigned long waiting;
	unsigned int num_queued;
	unsigned int num_lent;
	bool refused;
};

/**
 * struct hsf_net - a network namespace
 * @nlsk: the kernel's socket of the family
 * @requests: those that are not over, by their sock
 * @groups: by protocol, from 1 to hsf_protocols
 * @dialect: enum hsf_dialect_number, which root of the namespace may change
 * @sysctl: for @dialect
 */
struct hsf_net {
	struct sock *nlsk;
	struct rhashtable requests;
	struct hsf_group *groups;
	unsigned int dialect;
	struct ctl_table_header *sysctl;
};

enum hsf_state {
	HSF_QUEUED,
	HSF_LENT,
	HSF_OVER,
};

/**
 * struct hsf_request - a socket that waits for its handshake, or has it
 * @ref: held by the service until the request is over, by its consumer and by its loan
 * @node: in a list of @group while it is HSF_QUEUED
 * @hash: in the namespace's table until it is HSF_OVER
 * @sk: of @sock, the table's key
 * @group: of the socket's namespace
 * @state: under the group's lock
 * @net: the namespace, held
 * @file: the consumer's; held until the last reference to the request goes
 * @sock: of @file
 * @args: what the agent is told
 * @peername: what @args points to
 * @priorities: what @args points to
 * @dialect: from ACCEPT on
 * @ops: the consumer's
 * @data: the consumer's own
 * @rcu: the table is read under RCU
 */
struct hsf_request {
	struct kref ref;
	struct list_head node;
	struct rhash_head hash;
	struct sock *sk;
	struct hsf_group *group;
	enum hsf_state state;
	struct net *net;
	struct file *file;
	struct socket *sock;
	struct hsf_handshake_args args;
	char peername[HSF_PEERNAME_SIZE];
	char priorities[HSF_PRIORITIES_SIZE];
	const struct hsf_dialect *dialect;
	const struct hsf_handshake_ops *ops;
	void *data;
	struct rcu_head rcu;
};

extern unsigned int hsf_protocols;
extern unsigned int hsf_limit;
extern unsigned int hsf_lent_limit;
extern unsigned int hsf_default_dialect;

struct hsf_net *hsf_net(const struct net *net);

/* queue.c */
int hsf_queues_create(struct hsf_net *hn);
void hsf_queues_destroy(struct hsf_net *hn);
int hsf_queue_insert(struct hsf_request *req);
struct hsf_request *hsf_queue_next(struct hsf_net *hn, u32 protocol);
bool hsf_queue_remove(struct hsf_request *req, bool also_lent);
bool hsf_queue_loan_ended(struct hsf_group *group);
void hsf_queue_refused(struct hsf_group *group);

/* request.c */
bool hsf_request_complete(struct hsf_request *req, const struct hsf_handshake_outcome *outcome);
bool hsf_request_end(struct hsf_request *req, int status);
bool hsf_request_is_over(const struct hsf_request *req);

/* loan.c */
struct file *hsf_lend(struct hsf_request *req);
void hsf_loan_ended(struct hsf_request *req);
struct hsf_request *hsf_request_of_loan(struct file *file);

/* netlink.c */
int hsf_netlink_create(struct net *net, struct hsf_net *hn);
int hsf_netlink_find_agent(struct hsf_net *hn, u32 protocol, gfp_t gfp);
int hsf_netlink_announce(struct hsf_net *hn, u32 protocol, gfp_t gfp);
int hsf_answer(struct sk_buff *skb, struct sk_buff *answer);
int hsf_answer_status(struct sk_buff *skb, const struct nlmsghdr *nlh, u32 status);

/* accept.c, done.c */
int hsf_accept(struct sk_buff *skb, const struct nlmsghdr *nlh, struct nlattr **attrs);
int hsf_done(struct sk_buff *skb, const struct nlmsghdr *nlh, struct nlattr **attrs);

/* sysctl.c */
int hsf_sysctl_register(struct net *net, struct hsf_net *hn);
void hsf_sysctl_deregister(struct hsf_net *hn);

/* device.c */
int hsf_device_register(void);
void hsf_device_deregister(void);

#endif /* HSF_REQUEST_H */
