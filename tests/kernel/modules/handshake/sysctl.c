// SPDX-License-Identifier: GPL-2.0-only
/*
 * net.hsframework_handshake, in each network namespace:
 *
 * dialect: enum hsf_dialect_number.  A request keeps the one in which it was accepted.
 */
#include <linux/slab.h>
#include <linux/sysctl.h>

#include "request.h"

static const struct ctl_table hsf_sysctls[] = {
	{
		.procname	= "dialect",
		.maxlen		= sizeof(unsigned int),
		.mode		= 0644,
		.proc_handler	= proc_douintvec_minmax,
		.extra1		= SYSCTL_ZERO,
		.extra2		= SYSCTL_ONE,
	},
};

/**
 * hsf_sysctl_register - make a namespace's settings
 * @net: the namespace
 * @hn: ours
 *
 * Return: 0 or -ENOMEM.
 */
int hsf_sysctl_register(struct net *net, struct hsf_net *hn)
{
	struct ctl_table *table = kmemdup(hsf_sysctls, sizeof(hsf_sysctls), GFP_KERNEL_ACCOUNT);

	if (!table)
		return -ENOMEM;
	hn->dialect = hsf_default_dialect;
	table->data = &hn->dialect;
	hn->sysctl = register_net_sysctl_sz(net, "net/hsframework_handshake", table,
					    ARRAY_SIZE(hsf_sysctls));
	if (!hn->sysctl) {
		kfree(table);
		return -ENOMEM;
	}
	return 0;
}

/**
 * hsf_sysctl_deregister - undo hsf_sysctl_register()
 * @hn: ours
 */
void hsf_sysctl_deregister(struct hsf_net *hn)
{
	const struct ctl_table *table = hn->sysctl->ctl_table_arg;

	unregister_net_sysctl_table(hn->sysctl);
	kfree(table);
}
