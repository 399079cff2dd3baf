// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations that fail on purpose, for tests.
 *
 *   fail_allocation rw  which allocations fail, counted from 1 when this is written: up to four numbers with commas
 *                       between them; 0, the default, for none
 *   allocations     r   how many have been requested since then; nothing is counted while none fails
 *
 * An allocation is what this module requests of the kernel and may not get: memory, pages for tables, mappings, frames,
 * a place in a list of the kernel's. All guests count together. To count only, let one fail that is never reached.
 *
 * Given when the module is loaded, it holds for loading as well.
 */
#include <linux/atomic.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <asm/page.h>

#include "lg_shim.h"

#define LG_MOST_FAILING 4

/* How many fail, and which. */
int lg_failing[1 + LG_MOST_FAILING];
static atomic_t asked_for = ATOMIC_INIT(0);

bool lg_fail_now(const char *where)
{
	int number = atomic_inc_return(&asked_for);
	int i;

	for (i = 1; i <= LG_MOST_FAILING; i++) {
		if (READ_ONCE(lg_failing[i]) == number) {
			pr_info("lg: allocation %d fails on purpose, in %s\n", number, where);
			return true;
		}
	}
	return false;
}

asmlinkage bool lg_fail_vcpu(void)
{
	return lg_should_fail();
}

static int fail_set(const char *value, const struct kernel_param *kp)
{
	int failing[1 + LG_MOST_FAILING] = { 0 };
	const char *rest = get_options(value, ARRAY_SIZE(failing), failing);
	int i;

	if (failing[0] < 1 || (*rest && *rest != '\n'))
		return -EINVAL;
	/* What is counted in between belongs to neither. */
	WRITE_ONCE(lg_failing[0], 0);
	atomic_set(&asked_for, 0);
	for (i = 1; i <= LG_MOST_FAILING; i++)
		WRITE_ONCE(lg_failing[i], failing[i]);
	WRITE_ONCE(lg_failing[0], failing[1] > 0 ? failing[0] : 0);
	return 0;
}

static int fail_get(char *buffer, const struct kernel_param *kp)
{
	int length = scnprintf(buffer, PAGE_SIZE, "%d", lg_failing[0] ? lg_failing[1] : 0);
	int i;

	for (i = 2; i <= lg_failing[0]; i++)
		length += scnprintf(buffer + length, PAGE_SIZE - length, ",%d", lg_failing[i]);
	return length + scnprintf(buffer + length, PAGE_SIZE - length, "\n");
}

static const struct kernel_param_ops fail_ops = { .set = fail_set, .get = fail_get };
module_param_cb(fail_allocation, &fail_ops, NULL, 0600);
MODULE_PARM_DESC(fail_allocation, "for tests: which allocations from now on fail (default 0: none)");

static int asked_for_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%d\n", atomic_read(&asked_for));
}

static const struct kernel_param_ops asked_for_ops = { .set = lg_read_only_set, .get = asked_for_get };
module_param_cb(allocations, &asked_for_ops, NULL, 0400);
MODULE_PARM_DESC(allocations, "read-only: allocations since fail_allocation was written, while it is not 0");
