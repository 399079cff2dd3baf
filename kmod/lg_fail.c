// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations that fail on purpose, for tests.
 *
 *   fail_allocation rw  which allocation fails, counted from 1 when this is written; 0, the default, for none
 *   allocations     r   how many have been asked for since then; nothing is counted while fail_allocation is 0
 *
 * An allocation is whatever this module asks the kernel for and may not get: memory, pages for tables, mappings, pins,
 * a place in a list of the kernel's. All guests count together. To count only, let one fail that is never reached.
 *
 * Written when the module is loaded, it holds for loading as well.
 */
#include <linux/atomic.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>

#include "lg_shim.h"

unsigned int lg_fail_allocation;
static atomic_t asked_for = ATOMIC_INIT(0);

bool lg_fail_now(const char *where)
{
	unsigned int number = atomic_inc_return(&asked_for);

	if (number != READ_ONCE(lg_fail_allocation))
		return false;
	pr_info("lg: allocation %u fails on purpose, in %s\n", number, where);
	return true;
}

asmlinkage bool lg_fail_slot(void)
{
	return lg_should_fail();
}

static int fail_set(const char *value, const struct kernel_param *kp)
{
	unsigned int number;
	int error = kstrtouint(value, 0, &number);

	if (error)
		return error;
	/* What is counted in between belongs to neither. */
	WRITE_ONCE(lg_fail_allocation, 0);
	atomic_set(&asked_for, 0);
	WRITE_ONCE(lg_fail_allocation, number);
	return 0;
}

static const struct kernel_param_ops fail_ops = { .set = fail_set, .get = param_get_uint };
module_param_cb(fail_allocation, &fail_ops, &lg_fail_allocation, 0600);
MODULE_PARM_DESC(fail_allocation, "for tests: which allocation from now on fails (default 0: none)");

static int asked_for_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%u\n", (unsigned int)atomic_read(&asked_for));
}

static const struct kernel_param_ops asked_for_ops = { .set = lg_read_only_set, .get = asked_for_get };
module_param_cb(allocations, &asked_for_ops, NULL, 0400);
MODULE_PARM_DESC(allocations, "read-only: allocations since fail_allocation was written, if it is not 0");
