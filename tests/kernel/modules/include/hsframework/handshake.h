/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The handshake service for its consumers in the kernel.
 *
 * docs/howto/kernel-consumer.md has a consumer step by step.
 */
#ifndef HSFRAMEWORK_HANDSHAKE_H
#define HSFRAMEWORK_HANDSHAKE_H

#include <linux/gfp.h>
#include <linux/key.h>
#include <linux/module.h>
#include <linux/net.h>
#include <net/netlink.h>

#include <uapi/hsframework/handshake.h>

struct hsf_request;

/**
 * struct hsf_handshake_args - what an agent is told
 * @protocol: the mechanism's number, which is its multicast group's too: 1 and up
 * @message_type: our role, enum hsf_message_type
 * @auth_mode: enum hsf_auth_mode
 * @timeout_ms: told to the agent, not enforced; 0: none
 * @urgency: place in the queue, 0 to HSF_URGENCY_MAX, the highest is accepted first
 * @handshake_type: enum hsf_handshake_type
 * @keyring: serial of the keyring that holds the keys below, which ACCEPT links into the agent's
 *	process keyring; 0: none
 * @certificate: serial of a key; 0: none
 * @private_key: serial of a key; 0: none
 * @num_peerids: how many of @peerids are used
 * @peerids: serials of keys with pre-shared keys
 * @peername: the name that the peer must prove, shorter than HSF_PEERNAME_SIZE; NULL or empty: none
 * @priorities: the TLS policy as a GnuTLS priority string, shorter than HSF_PRIORITIES_SIZE;
 *	NULL or empty: the agent's default
 */
struct hsf_handshake_args {
	u32 protocol;
	u32 message_type;
	u32 auth_mode;
	u32 timeout_ms;
	u32 urgency;
	u32 handshake_type;
	key_serial_t keyring;
	key_serial_t certificate;
	key_serial_t private_key;
	unsigned int num_peerids;
	key_serial_t peerids[HSF_PEERIDS_MAX];
	const char *peername;
	const char *priorities;
};

/**
 * struct hsf_handshake_outcome - how a handshake ended
 * @status: 0 or a negative errno
 * @num_peerids: how many of @peerids are used
 * @peerids: serials of the keys that tell who the peer is
 * @args: the agent's DONE_ARGS, for attributes from HSF_A_MECHANISM on; NULL: there were none
 */
struct hsf_handshake_outcome {
	int status;
	unsigned int num_peerids;
	const key_serial_t *peerids;
	const struct nlattr *args;
};

/**
 * struct hsf_handshake_ops - what the service calls in a consumer
 * @owner: the consumer's module, which stays for as long as there is a request with these
 * @accept: adds attributes of the mechanism's own, from HSF_A_MECHANISM on, to the agent's
 *	ACCEPT_RESP; an error ends the request with -EIO.  NULL: there are none
 * @established: true if the session is in the socket; asked only where an agent closes its last
 *	copy without DONE, and the dialect lets that be a success.  NULL: never
 * @done: the handshake is over.  Called once, unless hsf_handshake_cancel() has returned true
 * @release: nothing here is called for @data any more.  NULL: nobody need know
 *
 * All are called in process context, without a lock, and may sleep; @done may submit again.
 */
struct hsf_handshake_ops {
	struct module *owner;
	int (*accept)(void *data, struct sk_buff *msg);
	bool (*established)(void *data, struct sock *sk);
	void (*done)(void *data, const struct hsf_handshake_outcome *outcome);
	void (*release)(void *data);
};

struct hsf_request *hsf_handshake_submit(struct socket *sock, const struct hsf_handshake_ops *ops,
					 const struct hsf_handshake_args *args, void *data,
					 gfp_t gfp);
bool hsf_handshake_cancel(struct hsf_request *req);
void hsf_handshake_put(struct hsf_request *req);
bool hsf_tls_established(struct sock *sk);

#endif /* HSFRAMEWORK_HANDSHAKE_H */
