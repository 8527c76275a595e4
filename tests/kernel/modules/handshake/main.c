// SPDX-License-Identifier: GPL-2.0-only
/*
 * The handshake service in its raw-netlink form, in every network namespace.
 *
 * The module stays for as long as a file of the device is open, a socket is lent to an agent, or
 * user space has a socket of the family; so there are no requests when it goes.
 */
#include <linux/module.h>
#include <linux/netlink.h>
#include <net/netns/generic.h>

#include "request.h"

#define HSF_PROTOCOLS_MAX	1024

unsigned int hsf_protocols = HSF_PROTOCOL_PSP;
module_param_named(protocols, hsf_protocols, uint, 0444);
MODULE_PARM_DESC(protocols, "how many protocols, and multicast groups, there are (3 to 1024)");

unsigned int hsf_limit = 32;
module_param_named(limit, hsf_limit, uint, 0644);
MODULE_PARM_DESC(limit, "how many requests of a protocol may wait in a network namespace");

unsigned int hsf_lent_limit = 1024;
module_param_named(lent, hsf_lent_limit, uint, 0644);
MODULE_PARM_DESC(lent, "how many sockets a protocol's agents may have in a network namespace");

unsigned int hsf_default_dialect;
module_param_named(dialect, hsf_default_dialect, uint, 0444);
MODULE_PARM_DESC(dialect, "the messages' contents: 0 hsframework's, 1 as published in 2023; where net.hsframework_handshake.dialect says nothing else");

static unsigned int hsf_net_id;

/**
 * hsf_net - what we keep of a network namespace
 * @net: the namespace
 *
 * Return: ours, for as long as the caller has the namespace.
 */
struct hsf_net *hsf_net(const struct net *net)
{
	return net_generic(net, hsf_net_id);
}

static int __net_init hsf_net_init(struct net *net)
{
	struct hsf_net *hn = hsf_net(net);
	int err = hsf_queues_create(hn);

	if (err)
		return err;
	err = hsf_sysctl_register(net, hn);
	if (err)
		goto out_queues;
	err = hsf_netlink_create(net, hn);
	if (err)
		goto out_sysctl;
	return 0;

out_sysctl:
	hsf_sysctl_deregister(hn);
out_queues:
	hsf_queues_destroy(hn);
	return err;
}

/* Each request would hold the namespace. */
static void __net_exit hsf_net_exit(struct net *net)
{
	struct hsf_net *hn = hsf_net(net);

	netlink_kernel_release(hn->nlsk);
	hsf_sysctl_deregister(hn);
	hsf_queues_destroy(hn);
}

static struct pernet_operations hsf_net_operations = {
	.init	= hsf_net_init,
	.exit	= hsf_net_exit,
	.id	= &hsf_net_id,
	.size	= sizeof(struct hsf_net),
};

static int __init hsf_init(void)
{
	int err;

	if (hsf_protocols < HSF_PROTOCOL_PSP || hsf_protocols > HSF_PROTOCOLS_MAX) {
		pr_err("hsframework_handshake: protocols=%u is not from %d to %d\n", hsf_protocols,
		       HSF_PROTOCOL_PSP, HSF_PROTOCOLS_MAX);
		return -EINVAL;
	}
	if (hsf_default_dialect > HSF_DIALECT_PUBLISHED) {
		pr_err("hsframework_handshake: dialect=%u is not 0 or 1\n", hsf_default_dialect);
		return -EINVAL;
	}
	err = register_pernet_subsys(&hsf_net_operations);
	if (err)
		return err;
	err = hsf_device_register();
	if (err)
		unregister_pernet_subsys(&hsf_net_operations);
	return err;
}

static void __exit hsf_exit(void)
{
	hsf_device_deregister();
	unregister_pernet_subsys(&hsf_net_operations);
}

module_init(hsf_init);
module_exit(hsf_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("The handshake service over a netlink family of its own, for the tests of hsframework");
