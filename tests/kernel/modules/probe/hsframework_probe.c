// SPDX-License-Identifier: GPL-2.0-only
/* Shows that an out-of-tree module builds against the test kernel's tree, loads into it, and sees the handshake API. */
#include <linux/key.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <net/handshake.h>

static int answer;
module_param(answer, int, 0444);
MODULE_PARM_DESC(answer, "what the handshake API answers to arguments without a socket (negative errno)");

static int __init probe_init(void)
{
	struct tls_handshake_args args = {};

	answer = tls_client_hello_anon(&args, GFP_KERNEL);
	return 0;
}

static void __exit probe_exit(void)
{
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Probe of the test kernel of hsframework");
