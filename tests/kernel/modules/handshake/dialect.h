/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef HSF_DIALECT_H
#define HSF_DIALECT_H

#include "request.h"

/**
 * struct hsf_ending - what an agent says of a handshake
 * @outcome: what the consumer is told; -EIO until the agent has said something else
 * @peerids: of @outcome
 */
struct hsf_ending {
	struct hsf_handshake_outcome outcome;
	key_serial_t peerids[HSF_PEERIDS_MAX];
};

/**
 * struct hsf_dialect - the contents of the messages
 * @check: -EOPNOTSUPP for arguments that agents cannot be told; else 0
 * @put_head: add what an ACCEPT that succeeds has beside its nest
 * @put_args: add what ACCEPT_RESP has
 * @parse: read DONE_ARGS; an error refuses the DONE, and nothing is completed
 * @sockfd_in_nest: a DONE without HSF_A_SOCKFD may have HSF_A_DONE_SOCKFD
 * @checks_protocol: a DONE that names another protocol than its request's is refused
 * @close_may_succeed: closing the last copy without DONE is success where the session is in the
 *	socket
 */
struct hsf_dialect {
	int (*check)(const struct hsf_handshake_args *args);
	int (*put_head)(struct sk_buff *answer, int fd, const struct hsf_handshake_args *args);
	int (*put_args)(struct sk_buff *answer, int fd, const struct hsf_handshake_args *args);
	int (*parse)(struct hsf_ending *ending, const struct nlattr *nest);
	bool sockfd_in_nest;
	bool checks_protocol;
	bool close_may_succeed;
};

extern const struct hsf_dialect hsf_own_dialect;
extern const struct hsf_dialect hsf_published_dialect;

int hsf_parse_nest(struct nlattr **attrs, int max, const struct nlattr *nest,
		   const struct nla_policy *policy);

static inline const struct hsf_dialect *hsf_dialect(const struct hsf_net *hn)
{
	return READ_ONCE(hn->dialect) == HSF_DIALECT_PUBLISHED ? &hsf_published_dialect :
								 &hsf_own_dialect;
}

#endif /* HSF_DIALECT_H */
