/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space sees of the module: netlink family 23, and /dev/hsframework_handshake.
 *
 * The messages are those of hsframework/netlink/specs/handshake-raw.yaml.
 */
#ifndef HSF_UAPI_H
#define HSF_UAPI_H

#include <linux/ioctl.h>
#include <linux/netlink.h>
#include <linux/types.h>

#define HSF_NETLINK_FAMILY	23

enum hsf_message {
	HSF_MSG_READY = NLMSG_MIN_TYPE + 1,
	HSF_MSG_ACCEPT,
	HSF_MSG_DONE,
};

enum hsf_attribute {
	HSF_A_MSG_STATUS = 1,	/* u32, enum hsf_status */
	HSF_A_SOCKFD,		/* u32 */
	HSF_A_PROTOCOL,		/* u32, enum hsf_protocol */
	HSF_A_ACCEPT_RESP,	/* nest, enum hsf_accept_attribute */
	HSF_A_DONE_ARGS,	/* nest, enum hsf_done_attribute */
	HSF_A_MAX = HSF_A_DONE_ARGS,
};

enum hsf_accept_attribute {
	HSF_A_ACCEPT_SOCKFD = 1,	/* s32 */
	HSF_A_ACCEPT_HANDLER_CLASS,	/* u32; the family has none */
	HSF_A_ACCEPT_MESSAGE_TYPE,	/* u32, enum hsf_message_type */
	HSF_A_ACCEPT_TIMEOUT,		/* u32, ms */
	HSF_A_ACCEPT_AUTH_MODE,		/* u32, enum hsf_auth_mode */
	HSF_A_ACCEPT_PEER_IDENTITY,	/* u32, repeated */
	HSF_A_ACCEPT_CERTIFICATE,	/* nest, enum hsf_x509_attribute */
	HSF_A_ACCEPT_PEERNAME,		/* string */
	HSF_A_ACCEPT_KEYRING,		/* u32 */
	HSF_A_ACCEPT_URGENCY,		/* u32 */
	HSF_A_ACCEPT_HANDSHAKE_TYPE,	/* u32, enum hsf_handshake_type */
	HSF_A_ACCEPT_TLS_PRIORITIES,	/* string, in GnuTLS's syntax */
};

enum hsf_x509_attribute {
	HSF_A_X509_CERT = 1,	/* s32 */
	HSF_A_X509_PRIVKEY,	/* s32 */
};

enum hsf_done_attribute {
	HSF_A_DONE_STATUS = 1,	/* u32, a positive errno */
	HSF_A_DONE_SOCKFD,	/* s32 */
	HSF_A_DONE_REMOTE_AUTH,	/* u32, repeated */
	HSF_A_DONE_MAX = HSF_A_DONE_REMOTE_AUTH,
};

enum hsf_status {
	HSF_STATUS_OK,
	HSF_STATUS_INVAL,
	HSF_STATUS_BADF,
	HSF_STATUS_NOTREADY,
	HSF_STATUS_SYSTEMFAULT,
};

/* The number is its multicast group's too.  There may be more: the parameter "protocols". */
enum hsf_protocol {
	HSF_PROTOCOL_TLSHD = 1,
	HSF_PROTOCOL_QUIC,
	HSF_PROTOCOL_PSP,
};

enum hsf_message_type {
	HSF_CLIENT_HELLO = 1,
	HSF_SERVER_HELLO,
};

enum hsf_auth_mode {
	HSF_AUTH_UNAUTH = 1,
	HSF_AUTH_PSK,
	HSF_AUTH_X509,
};

enum hsf_handshake_type {
	HSF_HANDSHAKE_INITIAL,
	HSF_HANDSHAKE_REKEY,
	HSF_HANDSHAKE_MAX = HSF_HANDSHAKE_REKEY,
};

/* The parameter "dialect", and net.hsframework_handshake.dialect in each network namespace. */
enum hsf_dialect_number {
	HSF_DIALECT_OWN,
	HSF_DIALECT_PUBLISHED,
};

/* The contents of ACCEPT_RESP and DONE_ARGS in HSF_DIALECT_PUBLISHED. */
enum hsf_published_attribute {
	HSF_P_TLS_TYPE = 20,		/* u32, enum hsf_message_type */
	HSF_P_TLS_AUTH,			/* u32, enum hsf_published_auth */
	HSF_P_TLS_PRIORITIES,		/* string, in GnuTLS's syntax */
	HSF_P_TLS_X509_CERT,		/* u32, serial of a key; 0: none */
	HSF_P_TLS_X509_PRIVKEY,		/* u32, the same */
	HSF_P_TLS_PSK,			/* u32, the same */
	HSF_P_TLS_SESS_STATUS,		/* u32, enum hsf_published_session_status */
	HSF_P_TLS_PEERID,		/* u32, serial of a key; 0: none */
	HSF_P_TLS_TIMEOUT,		/* u32, seconds */
	HSF_P_PUBLISHED_MAX = HSF_P_TLS_TIMEOUT,
	/* Ours, which an agent that was written from the published text does not read. */
	HSF_P_PEERNAME,			/* string */
	HSF_P_KEYRING,			/* u32, serial */
};

enum hsf_published_auth {
	HSF_P_AUTH_UNAUTH = 1,
	HSF_P_AUTH_X509,
	HSF_P_AUTH_PSK,
};

enum hsf_published_session_status {
	HSF_P_SESS_STATUS_OK,
	HSF_P_SESS_STATUS_FAULT,
	HSF_P_SESS_STATUS_REJECTED,
};

/* From here on, attributes of ACCEPT_RESP and DONE_ARGS are a mechanism's own. */
#define HSF_A_MECHANISM		64

#define HSF_URGENCY_MAX	7
#define HSF_PEERIDS_MAX		5
#define HSF_PEERNAME_SIZE	256
#define HSF_PRIORITIES_SIZE	256

enum hsf_service {
	HSF_SERVICE_RAW,	/* this module's */
	HSF_SERVICE_KERNEL_TLS,	/* the kernel's tls_client_hello_*() and tls_server_hello_*() */
	HSF_SERVICE_MAX = HSF_SERVICE_KERNEL_TLS,
};

/**
 * struct hsf_submission - what HSF_IOC_SUBMIT takes
 * @sockfd: a socket of the caller's
 * @service: enum hsf_service
 * @protocol: 1 and up; of HSF_SERVICE_RAW alone, as are @urgency and @handshake_type
 * @message_type: our role
 * @auth_mode: enum hsf_auth_mode
 * @timeout_ms: told to the agent, not enforced; 0: none
 * @urgency: 0 to 7, the highest is accepted first
 * @handshake_type: enum hsf_handshake_type
 * @keyring: serial of the keyring that holds the keys below; 0: none
 * @certificate: serial; 0: none
 * @private_key: serial; 0: none
 * @num_peerids: how many of @peerids are used
 * @peerids: serials of keys
 * @peername: ends with NUL; empty: none
 * @priorities: the TLS policy as a GnuTLS priority string; ends with NUL; empty: the agent's
 */
struct hsf_submission {
	__s32 sockfd;
	__u32 service;
	__u32 protocol;
	__u32 message_type;
	__u32 auth_mode;
	__u32 timeout_ms;
	__u32 urgency;
	__u32 handshake_type;
	__s32 keyring;
	__s32 certificate;
	__s32 private_key;
	__u32 num_peerids;
	__s32 peerids[HSF_PEERIDS_MAX];
	char peername[HSF_PEERNAME_SIZE];
	char priorities[HSF_PRIORITIES_SIZE];
};

/**
 * struct hsf_outcome - what read() gives, once the request is over
 * @status: 0 or a negative errno
 * @num_peerids: how many of @peerids are used
 * @peerids: serials of the keys that tell who the peer is
 */
struct hsf_outcome {
	__s32 status;
	__u32 num_peerids;
	__s32 peerids[HSF_PEERIDS_MAX];
};

#define HSF_IOC_SUBMIT	_IOW('h', 1, struct hsf_submission)
#define HSF_IOC_CANCEL	_IO('h', 2)

#endif /* HSF_UAPI_H */
