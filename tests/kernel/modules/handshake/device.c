// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/hsframework_handshake, by which a test is a consumer: it submits a socket of its own to this
 * module's service or to the kernel's TLS handshakes, waits (poll) and reads the outcome.
 *
 * An open file is one request.  Closing it withdraws the request.
 *
 * Locking: submitting->lock orders the ioctls of one file.  The outcome is written once, by
 * hsf_over(), before @over is set; whoever sees @over may read it.
 *
 * Lifetime: the service may be calling hsf_over() while the file is closed; the submission is freed
 * when that has returned.  Its last act is to complete @finished, which is made for this.  (The
 * kernel's service reads the peer's name while an agent accepts, and does not wait for that when the
 * request is withdrawn: a test with a name closes the file before or after.)
 */
#include <linux/completion.h>
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/uaccess.h>
#include <net/handshake.h>

#include "request.h"

/**
 * struct hsf_submitting - an open file of the device
 * @lock: orders ioctls
 * @args: what was submitted; the kernel's service keeps a pointer to the peer's name
 * @file: the socket's; NULL: nothing was submitted
 * @req: the request to HSF_SERVICE_RAW
 * @outcome: valid once @over is set
 * @over: the request has ended
 * @wait: for @over
 * @finished: nobody calls hsf_over() any more
 */
struct hsf_submitting {
	struct mutex lock;	/* orders ioctls */
	struct hsf_submission args;
	struct file *file;
	struct hsf_request *req;
	struct hsf_outcome outcome;
	bool over;
	wait_queue_head_t wait;
	struct completion finished;
};

static bool hsf_is_over(const struct hsf_submitting *sub)
{
	/* Before the outcome is read; pairs with hsf_over(). */
	return smp_load_acquire(&sub->over);
}

static void hsf_over(void *data, int status, const key_serial_t *peerids, unsigned int num_peerids)
{
	struct hsf_submitting *sub = data;

	sub->outcome.status = status;
	sub->outcome.num_peerids = num_peerids;
	if (num_peerids)
		memcpy(sub->outcome.peerids, peerids, num_peerids * sizeof(*peerids));
	/* After the outcome; pairs with hsf_is_over(). */
	smp_store_release(&sub->over, true);
	wake_up_interruptible_all(&sub->wait);
	complete_all(&sub->finished);
}

static void hsf_kernel_over(void *data, int status, key_serial_t peerid)
{
	hsf_over(data, status, &peerid, peerid ? 1 : 0);
}

static int hsf_submit_kernel(struct hsf_submitting *sub)
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

static int hsf_submit_raw(struct hsf_submitting *sub)
{
	struct hsf_request *req = hsf_request_submit(sub->file, &sub->args, hsf_over, sub);

	if (IS_ERR(req))
		return PTR_ERR(req);
	sub->req = req;
	return 0;
}

static bool hsf_valid(const struct hsf_submission *args)
{
	return args->service <= HSF_SERVICE_MAX &&
	       (args->service != HSF_SERVICE_RAW ||
		(args->protocol && args->protocol <= hsf_protocols)) &&
	       (args->message_type == HSF_CLIENT_HELLO || args->message_type == HSF_SERVER_HELLO) &&
	       args->auth_mode >= HSF_AUTH_UNAUTH && args->auth_mode <= HSF_AUTH_X509 &&
	       args->priority <= HSF_PRIORITY_MAX &&
	       args->handshake_type <= HSF_HANDSHAKE_MAX &&
	       args->num_peerids <= HSF_PEERIDS_MAX &&
	       strnlen(args->peername, HSF_PEERNAME_SIZE) < HSF_PEERNAME_SIZE;
}

/* A socket, but not one that was lent to the caller: that one is having its handshake. */
static struct file *hsf_socket_file(int fd)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (!sock_from_file(file) || hsf_request_of_loan(file)) {
		fput(file);
		return ERR_PTR(-ENOTSOCK);
	}
	return file;
}

static long hsf_submit(struct hsf_submitting *sub, const struct hsf_submission __user *from)
{
	struct file *file;
	int err;

	if (sub->file)
		return -EALREADY;
	if (copy_from_user(&sub->args, from, sizeof(sub->args)))
		return -EFAULT;
	if (!hsf_valid(&sub->args))
		return -EINVAL;
	file = hsf_socket_file(sub->args.sockfd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	sub->file = file;
	err = sub->args.service == HSF_SERVICE_RAW ? hsf_submit_raw(sub) : hsf_submit_kernel(sub);
	if (err) {
		sub->file = NULL;
		fput(file);
	}
	return err;
}

/* True: it is withdrawn, and hsf_over() will not be called. */
static bool hsf_withdraw(struct hsf_submitting *sub)
{
	/* The kernel's service goes by the sock, which may have been submitted again since. */
	if (hsf_is_over(sub))
		return false;
	if (sub->req)
		return hsf_request_cancel(sub->req);
	return tls_handshake_cancel(sock_from_file(sub->file)->sk);
}

static long hsf_cancel(struct hsf_submitting *sub)
{
	if (!sub->file)
		return -EINVAL;
	if (!hsf_withdraw(sub))
		return -EALREADY;
	hsf_over(sub, -ECANCELED, NULL, 0);
	return 0;
}

static long hsf_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct hsf_submitting *sub = file->private_data;

	guard(mutex)(&sub->lock);
	switch (cmd) {
	case HSF_IOC_SUBMIT:
		return hsf_submit(sub, (const struct hsf_submission __user *)arg);
	case HSF_IOC_CANCEL:
		return hsf_cancel(sub);
	default:
		return -ENOTTY;
	}
}

static ssize_t hsf_read(struct file *file, char __user *to, size_t size, loff_t *offset)
{
	struct hsf_submitting *sub = file->private_data;
	int err;

	if (size < sizeof(sub->outcome))
		return -EINVAL;
	if (!hsf_is_over(sub)) {
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event_interruptible(sub->wait, hsf_is_over(sub));
		if (err)
			return err;
	}
	if (copy_to_user(to, &sub->outcome, sizeof(sub->outcome)))
		return -EFAULT;
	return sizeof(sub->outcome);
}

static __poll_t hsf_poll(struct file *file, poll_table *wait)
{
	struct hsf_submitting *sub = file->private_data;

	poll_wait(file, &sub->wait, wait);
	return hsf_is_over(sub) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int hsf_open(struct inode *inode, struct file *file)
{
	struct hsf_submitting *sub = kzalloc(sizeof(*sub), GFP_KERNEL);

	if (!sub)
		return -ENOMEM;
	mutex_init(&sub->lock);
	init_waitqueue_head(&sub->wait);
	init_completion(&sub->finished);
	file->private_data = sub;
	return 0;
}

static int hsf_release(struct inode *inode, struct file *file)
{
	struct hsf_submitting *sub = file->private_data;

	if (sub->file) {
		if (!hsf_withdraw(sub))
			wait_for_completion(&sub->finished);
		if (sub->req)
			hsf_request_put(sub->req);
		fput(sub->file);
	}
	kfree(sub);
	return 0;
}

static const struct file_operations hsf_operations = {
	.owner		= THIS_MODULE,
	.open		= hsf_open,
	.release	= hsf_release,
	.unlocked_ioctl	= hsf_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.read		= hsf_read,
	.poll		= hsf_poll,
};

static struct miscdevice hsf_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "hsframework_handshake",
	.fops	= &hsf_operations,
	.mode	= 0600,
};

/**
 * hsf_device_register - make the device
 *
 * Return: 0 or a negative errno.
 */
int hsf_device_register(void)
{
	return misc_register(&hsf_device);
}

/**
 * hsf_device_deregister - take the device away; no file of it is open
 */
void hsf_device_deregister(void)
{
	misc_deregister(&hsf_device);
}
