// SPDX-License-Identifier: GPL-2.0
/*
 * The ends of a guest: takes the place of the PC's ways to power off and to
 * reset. The launcher gets the last word: "Power down" is an orderly end.
 */
#include <linux/kernel.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>

#include <asm/lguest.h>
#include <asm/page.h>
#include <asm/reboot.h>

#include "port.h"

static const char power_down[] = "Power down";

static void lguest_power_off(void)
{
	lguest_hcall(LHCALL_SHUTDOWN, __pa_symbol(power_down),
		     LGUEST_SHUTDOWN_POWEROFF, 0, 0);
}

static void lguest_emergency_restart(void)
{
	lguest_hcall(LHCALL_SHUTDOWN, __pa_symbol(power_down),
		     LGUEST_SHUTDOWN_RESTART, 0, 0);
}

static void lguest_restart(char *command)
{
	lguest_emergency_restart();
}

/*
 * A kernel with panic=N restarts after a panic; otherwise it would hang, and
 * ends its guest instead.
 */
static int end_of_panic(struct notifier_block *block, unsigned long unused, void *message)
{
	static char last_word[128];

	if (!panic_timeout) {
		snprintf(last_word, sizeof(last_word), "Kernel panic: %s", (char *)message);
		lguest_hcall(LHCALL_SHUTDOWN, __pa_symbol(last_word),
			     LGUEST_SHUTDOWN_POWEROFF, 0, 0);
	}
	return NOTIFY_DONE;
}

/* After all others, which may have something to print. */
static struct notifier_block panic_block = {
	.notifier_call	= end_of_panic,
	.priority	= INT_MIN,
};

void __init lguest_init_power(void)
{
	machine_ops.restart = lguest_restart;
	machine_ops.emergency_restart = lguest_emergency_restart;
	machine_ops.power_off = lguest_power_off;
	/* A guest that halts could only be killed; there is no reset button. */
	machine_ops.halt = lguest_power_off;
	atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
}
