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
 * Lifetime: a submission is the file's, and this module's request's until hsf_forget().  The
 * kernel's service may be calling hsf_over() while the file is closed, which waits for it; its last
 * act is to complete @finished, which is made for this.  (That service reads the peer's name while
 * an agent accepts, and does not wait for that when the request is withdrawn: a test with a name
 * closes the file before or after.)
 */
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "device.h"
#include "request.h"

static bool hsf_is_over(const struct hsf_submitting *sub)
{
	/* Before the outcome is read; pairs with hsf_over(). */
	return smp_load_acquire(&sub->over);
}

/**
 * hsf_over - a submission has ended
 * @sub: the submission
 * @status: 0 or a negative errno
 * @peerids: serials of the keys that tell who the peer is
 * @num_peerids: how many
 */
void hsf_over(struct hsf_submitting *sub, int status, const key_serial_t *peerids,
	      unsigned int num_peerids)
{
	sub->outcome.status = status;
	sub->outcome.num_peerids = num_peerids;
	if (num_peerids)
		memcpy(sub->outcome.peerids, peerids, num_peerids * sizeof(*peerids));
	/* After the outcome; pairs with hsf_is_over(). */
	smp_store_release(&sub->over, true);
	wake_up_interruptible_all(&sub->wait);
	complete_all(&sub->finished);
}

static void hsf_free(struct kref *ref)
{
	kfree(container_of(ref, struct hsf_submitting, ref));
}

/**
 * hsf_forget - give up a reference to a submission
 * @sub: the submission
 */
void hsf_forget(struct hsf_submitting *sub)
{
	kref_put(&sub->ref, hsf_free);
}

/* What this module's service does not check, or the kernel's would read. */
static bool hsf_valid(const struct hsf_submission *args)
{
	return args->service <= HSF_SERVICE_MAX &&
	       args->num_peerids <= HSF_PEERIDS_MAX &&
	       strnlen(args->peername, sizeof(args->peername)) < sizeof(args->peername);
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
	struct hsf_submitting *sub = kzalloc_obj(*sub);

	if (!sub)
		return -ENOMEM;
	kref_init(&sub->ref);
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
		if (!hsf_withdraw(sub) && !sub->req)
			wait_for_completion(&sub->finished);
		if (sub->req)
			hsf_handshake_put(sub->req);
		fput(sub->file);
	}
	hsf_forget(sub);
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
