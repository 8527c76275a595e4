// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device as a consumer: of this module's service, by hsf_handshake_submit(), and of the
 * kernel's own, by tls_client_hello_*() and tls_server_hello_*().
 */
#include <linux/file.h>
#include <linux/key.h>
#include <linux/module.h>
#include <linux/socket.h>
#include <net/handshake.h>

#include "device.h"

static void hsf_device_done(void *data, const struct hsf_handshake_outcome *outcome)
{
	hsf_over(data, outcome->status, outcome->peerids, outcome->num_peerids);
}

static bool hsf_device_established(void *data, struct sock *sk)
{
	const struct hsf_submitting *sub = data;

	return sub->args.protocol == HSF_PROTOCOL_TLSHD && hsf_tls_established(sk);
}

static void hsf_device_release(void *data)
{
	hsf_forget(data);
}

static const struct hsf_handshake_ops hsf_device_handshake = {
	.owner		= THIS_MODULE,
	.established	= hsf_device_established,
	.done		= hsf_device_done,
	.release	= hsf_device_release,
};

static void hsf_kernel_over(void *data, int status, key_serial_t peerid)
{
	hsf_over(data, status, &peerid, peerid ? 1 : 0);
}

/**
 * hsf_submit_kernel - ask the kernel's own service
 * @sub: the submission, with a socket and arguments
 *
 * Return: 0 or a negative errno.
 */
int hsf_submit_kernel(struct hsf_submitting *sub)
{
	const struct hsf_submission *args = &sub->args;
	struct tls_handshake_args tls = {
		.ta_sock	= sock_from_file(sub->file),
		.ta_done	= hsf_kernel_over,
		.ta_data	= sub,
		.ta_peername	= args->peername[0] ? args->peername : NULL,
		.ta_timeout_ms	= args->timeout_ms,
		.ta_keyring	= args->keyring,
		.ta_my_cert	= args->certificate,
		.ta_my_privkey	= args->private_key,
		.ta_num_peerids	= args->num_peerids,
	};
	bool client = args->message_type == HSF_CLIENT_HELLO;

	BUILD_BUG_ON(sizeof(tls.ta_my_peerids) < sizeof(args->peerids));
	memcpy(tls.ta_my_peerids, args->peerids, sizeof(args->peerids));
	switch (args->auth_mode) {
	case HSF_AUTH_UNAUTH:
		return client ? tls_client_hello_anon(&tls, GFP_KERNEL) : -EINVAL;
	case HSF_AUTH_X509:
		return client ? tls_client_hello_x509(&tls, GFP_KERNEL) :
				tls_server_hello_x509(&tls, GFP_KERNEL);
	default:
		return client ? tls_client_hello_psk(&tls, GFP_KERNEL) :
				tls_server_hello_psk(&tls, GFP_KERNEL);
	}
}

/**
 * hsf_submit_raw - ask this module's service
 * @sub: the submission, with a socket and arguments
 *
 * Return: 0 or a negative errno.
 */
int hsf_submit_raw(struct hsf_submitting *sub)
{
	const struct hsf_submission *args = &sub->args;
	struct hsf_handshake_args told = {
		.protocol	= args->protocol,
		.message_type	= args->message_type,
		.auth_mode	= args->auth_mode,
		.timeout_ms	= args->timeout_ms,
		.urgency	= args->urgency,
		.handshake_type	= args->handshake_type,
		.keyring	= args->keyring,
		.certificate	= args->certificate,
		.private_key	= args->private_key,
		.num_peerids	= args->num_peerids,
		.peername	= args->peername,
		.priorities	= args->priorities,
	};
	struct hsf_request *req;

	memcpy(told.peerids, args->peerids, sizeof(told.peerids));
	kref_get(&sub->ref);
	req = hsf_handshake_submit(sock_from_file(sub->file), &hsf_device_handshake, &told, sub,
				   GFP_KERNEL);
	if (IS_ERR(req)) {
		hsf_forget(sub);
		return PTR_ERR(req);
	}
	sub->req = req;
	return 0;
}

/**
 * hsf_withdraw - take a submission back
 * @sub: a submission that has been submitted
 *
 * Return: true, and hsf_over() will not be called; false, it was called, or is just now.
 */
bool hsf_withdraw(struct hsf_submitting *sub)
{
	/* The kernel's service goes by the sock, which may have been submitted again since. */
	if (smp_load_acquire(&sub->over))	/* pairs with hsf_over() */
		return false;
	if (sub->req)
		return hsf_handshake_cancel(sub->req);
	return tls_handshake_cancel(sock_from_file(sub->file)->sk);
}
