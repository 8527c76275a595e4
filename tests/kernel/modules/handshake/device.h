/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef HSF_DEVICE_H
#define HSF_DEVICE_H

#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/wait.h>

#include <hsframework/handshake.h>

/**
 * struct hsf_submitting - an open file of the device
 * @ref: held by the file and by the request
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
	struct kref ref;
	struct mutex lock;	/* orders ioctls */
	struct hsf_submission args;
	struct file *file;
	struct hsf_request *req;
	struct hsf_outcome outcome;
	bool over;
	wait_queue_head_t wait;
	struct completion finished;
};

/* consumer.c */
int hsf_submit_raw(struct hsf_submitting *sub);
int hsf_submit_kernel(struct hsf_submitting *sub);
bool hsf_withdraw(struct hsf_submitting *sub);

/* device.c */
void hsf_over(struct hsf_submitting *sub, int status, const key_serial_t *peerids,
	      unsigned int num_peerids);
void hsf_forget(struct hsf_submitting *sub);

#endif /* HSF_DEVICE_H */
