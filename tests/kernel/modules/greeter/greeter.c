// SPDX-License-Identifier: GPL-2.0-only
/*
 * A consumer in the kernel of a mechanism that is not TLS: docs/howto/kernel-consumer.md goes
 * through it.
 *
 * /dev/hsframework_greeter takes connections and greets their peers, once a handshake of the
 * mechanism has succeeded.  Writing "FD TOPIC" hands it a connected socket; reading then waits for
 * the outcome, a line with 0 or a negative errno.  An open file is one connection.
 *
 * The mechanism has two attributes of its own: an agent is told the topic, and says the greeting.
 *
 * Lifetime: a greeting is its file's and its request's.  Its timer is the file's alone.
 */
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <hsframework/handshake.h>

enum greeter_attribute {
	GREETER_A_TOPIC = HSF_A_MECHANISM,	/* string, to the agent */
	GREETER_A_GREETING,			/* string, from the agent */
};

#define GREETER_SIZE	64

static unsigned int greeter_protocol = 4;
module_param_named(protocol, greeter_protocol, uint, 0444);
MODULE_PARM_DESC(protocol, "the mechanism's number, which is its multicast group's too");

static unsigned int greeter_timeout_ms = 10000;
module_param_named(timeout_ms, greeter_timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms, "how long a connection waits for its handshake");

static atomic_t greeter_connections;
module_param_named(connections, greeter_connections.counter, int, 0444);
MODULE_PARM_DESC(connections, "how many there are: open files, and requests that are not released");

/**
 * struct greeting - a connection
 * @ref: held by the file and by the request
 * @lock: orders writes
 * @file: the connection's; NULL: none has been written
 * @req: the request
 * @timer: gives up
 * @topic: told to the agent
 * @status: 0 or a negative errno, valid once @over is set
 * @over: the handshake has ended
 * @wait: for @over
 */
struct greeting {
	struct kref ref;
	struct mutex lock;	/* orders writes */
	struct file *file;
	struct hsf_request *req;
	struct delayed_work timer;
	char topic[GREETER_SIZE];
	int status;
	bool over;
	wait_queue_head_t wait;
};

static void greeting_free(struct kref *ref)
{
	atomic_dec(&greeter_connections);
	kfree(container_of(ref, struct greeting, ref));
}

static void greeting_over(struct greeting *greeting, int status)
{
	greeting->status = status;
	/* After the status; pairs with greeter_read(). */
	smp_store_release(&greeting->over, true);
	wake_up_interruptible_all(&greeting->wait);
}

/* The socket is the kernel's again: the consumer goes on, or gives it up. */
static void greeting_say(struct greeting *greeting, const char *text)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT };
	struct kvec line = { .iov_base = (void *)text, .iov_len = strlen(text) };

	kernel_sendmsg(sock_from_file(greeting->file), &msg, &line, 1, line.iov_len);
}

static int greeter_accept(void *data, struct sk_buff *msg)
{
	const struct greeting *greeting = data;

	return nla_put_string(msg, GREETER_A_TOPIC, greeting->topic);
}

static void greeter_done(void *data, const struct hsf_handshake_outcome *outcome)
{
	struct greeting *greeting = data;
	const struct nlattr *said = NULL;
	char text[GREETER_SIZE] = "hello";

	if (outcome->status) {
		kernel_sock_shutdown(sock_from_file(greeting->file), SHUT_RDWR);
	} else {
		if (outcome->args)
			said = nla_find(nla_data(outcome->args), nla_len(outcome->args),
					GREETER_A_GREETING);
		if (said)
			nla_strscpy(text, said, sizeof(text));
		greeting_say(greeting, text);
	}
	greeting_over(greeting, outcome->status);
}

static void greeter_release(void *data)
{
	struct greeting *greeting = data;

	kref_put(&greeting->ref, greeting_free);
}

static const struct hsf_handshake_ops greeter_ops = {
	.owner		= THIS_MODULE,
	.accept		= greeter_accept,
	.done		= greeter_done,
	.release	= greeter_release,
};

static void greeter_give_up(struct work_struct *work)
{
	struct greeting *greeting = container_of(to_delayed_work(work), struct greeting, timer);

	if (hsf_handshake_cancel(greeting->req)) {
		kernel_sock_shutdown(sock_from_file(greeting->file), SHUT_RDWR);
		greeting_over(greeting, -ETIMEDOUT);
	}
}

static int greeting_start(struct greeting *greeting, struct file *file)
{
	struct hsf_handshake_args args = {
		.protocol	= greeter_protocol,
		.message_type	= HSF_CLIENT_HELLO,
		.auth_mode	= HSF_AUTH_UNAUTH,
		.timeout_ms	= greeter_timeout_ms,
	};
	struct hsf_request *req;

	greeting->file = file;
	kref_get(&greeting->ref);	/* the request's, which greeter_release() gives up */
	req = hsf_handshake_submit(sock_from_file(file), &greeter_ops, &args, greeting, GFP_KERNEL);
	if (IS_ERR(req)) {
		greeting->file = NULL;
		kref_put(&greeting->ref, greeting_free);
		return PTR_ERR(req);
	}
	greeting->req = req;
	schedule_delayed_work(&greeting->timer, msecs_to_jiffies(greeter_timeout_ms));
	return 0;
}

static ssize_t greeter_write(struct file *opened, const char __user *from, size_t size, loff_t *pos)
{
	struct greeting *greeting = opened->private_data;
	char text[GREETER_SIZE + 16] = "";
	struct file *file;
	int fd, err;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, size))
		return -EFAULT;
	guard(mutex)(&greeting->lock);
	if (greeting->file)
		return -EALREADY;
	if (sscanf(text, "%d %63s", &fd, greeting->topic) != 2)
		return -EINVAL;
	file = fget(fd);
	if (!file)
		return -EBADF;
	err = sock_from_file(file) ? greeting_start(greeting, file) : -ENOTSOCK;
	if (err) {
		fput(file);
		return err;
	}
	return size;
}

static ssize_t greeter_read(struct file *opened, char __user *to, size_t size, loff_t *pos)
{
	struct greeting *greeting = opened->private_data;
	char text[16];
	int err;

	/* Before the status; pairs with greeting_over(). */
	err = wait_event_interruptible(greeting->wait, smp_load_acquire(&greeting->over));
	if (err)
		return err;
	snprintf(text, sizeof(text), "%d\n", greeting->status);
	return simple_read_from_buffer(to, size, pos, text, strlen(text));
}

static int greeter_open(struct inode *inode, struct file *opened)
{
	struct greeting *greeting = kzalloc_obj(*greeting);

	if (!greeting)
		return -ENOMEM;
	kref_init(&greeting->ref);
	mutex_init(&greeting->lock);
	init_waitqueue_head(&greeting->wait);
	INIT_DELAYED_WORK(&greeting->timer, greeter_give_up);
	opened->private_data = greeting;
	atomic_inc(&greeter_connections);
	return 0;
}

static int greeter_close(struct inode *inode, struct file *opened)
{
	struct greeting *greeting = opened->private_data;

	cancel_delayed_work_sync(&greeting->timer);
	if (greeting->req) {
		hsf_handshake_cancel(greeting->req);
		hsf_handshake_put(greeting->req);
	}
	if (greeting->file)
		fput(greeting->file);
	kref_put(&greeting->ref, greeting_free);
	return 0;
}

static const struct file_operations greeter_operations = {
	.owner		= THIS_MODULE,
	.open		= greeter_open,
	.release	= greeter_close,
	.read		= greeter_read,
	.write		= greeter_write,
};

static struct miscdevice greeter_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "hsframework_greeter",
	.fops	= &greeter_operations,
	.mode	= 0600,
};

module_misc_device(greeter_device);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A consumer of a handshake mechanism that is not TLS, for the tests of hsframework");
