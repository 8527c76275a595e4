// SPDX-License-Identifier: GPL-2.0-only
/*
 * A consumer of the kernel's TLS handshake upcall under a test's control: /dev/hello submits any connected socket to
 * tls_client_hello_x509(), tls_client_hello_psk(), tls_server_hello_x509() or tls_server_hello_psk().
 *
 *   ioctl(HELLO_SUBMIT, struct hello_submit *)  0, or what the kernel refuses the request with (EAGAIN, ESRCH, ...)
 *   read()                                      whole struct hello_done, in the order in which they ended
 *   poll()                                      readable when there is one
 *
 * A request holds its socket and the device's state until it is done, so that both may be closed meanwhile.  A request
 * that nobody ever completes keeps them, and the module, for good: as with the kernel's own consumers.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/key.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/handshake.h>

enum { HELLO_CLIENT_X509, HELLO_CLIENT_PSK, HELLO_SERVER_X509, HELLO_SERVER_PSK, HELLO_CLIENT_ANON };

struct hello_submit {
	__u64 cookie;		/* comes back in hello_done */
	__s32 fd;
	__u32 kind;
	__u32 timeout_ms;	/* 0: the request names none */
	__s32 keyring;
	__s32 psk;		/* serials; 0: none */
	__s32 certificate;
	__s32 private_key;
	char peername[68];	/* empty: none */
};

struct hello_done {
	__u64 cookie;
	__u64 nanoseconds;	/* CLOCK_MONOTONIC */
	__s32 status;		/* 0 or a negative errno */
	__s32 peer;		/* key serial */
};

#define HELLO_SUBMIT _IOW('h', 1, struct hello_submit)

struct device_state {
	struct kref references;
	spinlock_t lock;
	struct list_head ended;
	wait_queue_head_t readers;
};

struct request {
	struct list_head entry;
	struct device_state *state;
	struct socket *sock;
	struct hello_submit asked;
	struct hello_done done;
};

static void state_free(struct kref *references)
{
	struct device_state *state = container_of(references, struct device_state, references);
	struct request *request, *next;

	list_for_each_entry_safe(request, next, &state->ended, entry)
		kfree(request);
	kfree(state);
}

/* Lets go of what a request holds besides itself, which a reader may have freed by now. */
static void release(struct socket *sock, struct device_state *state)
{
	sockfd_put(sock);
	kref_put(&state->references, state_free);
	module_put(THIS_MODULE);
}

static void ended(void *data, int status, key_serial_t peer)
{
	struct request *request = data;
	struct device_state *state = request->state;
	struct socket *sock = request->sock;

	request->done.cookie = request->asked.cookie;
	request->done.nanoseconds = ktime_get_ns();
	request->done.status = status;
	request->done.peer = peer;
	spin_lock(&state->lock);
	list_add_tail(&request->entry, &state->ended);
	spin_unlock(&state->lock);
	wake_up_interruptible(&state->readers);
	release(sock, state);
}

static int ask(struct request *request)
{
	const struct hello_submit *asked = &request->asked;
	struct tls_handshake_args args = {
		.ta_sock = request->sock,
		.ta_done = ended,
		.ta_data = request,
		.ta_peername = asked->peername[0] ? asked->peername : NULL,
		.ta_timeout_ms = asked->timeout_ms,
		.ta_keyring = asked->keyring,
		.ta_my_cert = asked->certificate ? asked->certificate : TLS_NO_CERT,
		.ta_my_privkey = asked->private_key ? asked->private_key : TLS_NO_PRIVKEY,
		.ta_num_peerids = asked->psk ? 1 : 0,
		.ta_my_peerids = { asked->psk },
	};

	switch (asked->kind) {
	case HELLO_CLIENT_X509:
		return tls_client_hello_x509(&args, GFP_KERNEL);
	case HELLO_CLIENT_PSK:
		return tls_client_hello_psk(&args, GFP_KERNEL);
	case HELLO_CLIENT_ANON:
		return tls_client_hello_anon(&args, GFP_KERNEL);
	case HELLO_SERVER_X509:
		return tls_server_hello_x509(&args, GFP_KERNEL);
	case HELLO_SERVER_PSK:
		return tls_server_hello_psk(&args, GFP_KERNEL);
	}
	return -EINVAL;
}

static int submit(struct device_state *state, const void __user *argument)
{
	struct request *request = kzalloc(sizeof(*request), GFP_KERNEL);
	int result;

	if (!request)
		return -ENOMEM;
	result = -EFAULT;
	if (copy_from_user(&request->asked, argument, sizeof(request->asked)))
		goto free;
	request->asked.peername[sizeof(request->asked.peername) - 1] = '\0';
	request->sock = sockfd_lookup(request->asked.fd, &result);
	if (!request->sock)
		goto free;
	request->state = state;
	kref_get(&state->references);
	__module_get(THIS_MODULE);
	result = ask(request);
	if (!result)
		return 0;
	release(request->sock, state);
free:
	kfree(request);
	return result;
}

static long hello_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	if (command != HELLO_SUBMIT)
		return -ENOTTY;
	return submit(file->private_data, (void __user *)argument);
}

static struct request *take(struct device_state *state)
{
	struct request *request;

	spin_lock(&state->lock);
	request = list_first_entry_or_null(&state->ended, struct request, entry);
	if (request)
		list_del(&request->entry);
	spin_unlock(&state->lock);
	return request;
}

static ssize_t hello_read(struct file *file, char __user *buffer, size_t size, loff_t *position)
{
	struct device_state *state = file->private_data;
	size_t copied = 0;

	while (size - copied >= sizeof(struct hello_done)) {
		struct request *request = take(state);
		bool failed;

		if (!request) {
			int result;

			if (copied)
				break;
			if (file->f_flags & O_NONBLOCK)
				return -EAGAIN;
			result = wait_event_interruptible(state->readers, !list_empty(&state->ended));
			if (result)
				return result;
			continue;
		}
		failed = copy_to_user(buffer + copied, &request->done, sizeof(request->done));
		kfree(request);
		if (failed)
			return -EFAULT;
		copied += sizeof(struct hello_done);
	}
	return copied;
}

static __poll_t hello_poll(struct file *file, poll_table *table)
{
	struct device_state *state = file->private_data;

	poll_wait(file, &state->readers, table);
	return list_empty(&state->ended) ? 0 : EPOLLIN | EPOLLRDNORM;
}

static int hello_open(struct inode *inode, struct file *file)
{
	struct device_state *state = kzalloc(sizeof(*state), GFP_KERNEL);

	if (!state)
		return -ENOMEM;
	kref_init(&state->references);
	spin_lock_init(&state->lock);
	INIT_LIST_HEAD(&state->ended);
	init_waitqueue_head(&state->readers);
	file->private_data = state;
	return 0;
}

static int hello_release(struct inode *inode, struct file *file)
{
	struct device_state *state = file->private_data;

	kref_put(&state->references, state_free);
	return 0;
}

static const struct file_operations hello_operations = {
	.owner = THIS_MODULE,
	.open = hello_open,
	.release = hello_release,
	.read = hello_read,
	.poll = hello_poll,
	.unlocked_ioctl = hello_ioctl,
};

static struct miscdevice hello_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hello",
	.fops = &hello_operations,
	.mode = 0600,
};

module_misc_device(hello_device);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("TLS handshake requests of the kernel's, for the tests of hsframework");
