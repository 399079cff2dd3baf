// SPDX-License-Identifier: GPL-2.0
/*
 * Time: takes the place of the PC's timers and its clock chip.
 *
 * The clock is the time-stamp counter, which a guest may read, at the frequency
 * that the host reports; Linux's own code for it does the rest. On a host whose
 * counter cannot be relied on there is only the wall clock that the host writes
 * with each interrupt. It stands still in between, so that Linux must not make
 * its next tick depend on it: without the flag for high resolution it keeps a
 * regular tick, and that tick is what moves this clock on.
 */
#include <linux/clockchips.h>
#include <linux/clocksource.h>
#include <linux/interrupt.h>
#include <linux/time64.h>

#include <asm/cpufeature.h>
#include <asm/lguest.h>
#include <asm/x86_init.h>

#include "port.h"

#define CLOCK_IRQ	0

static unsigned long tsc_khz_of_host(void)
{
	return lguest_data.tsc_khz;
}

static void read_wall_clock(struct timespec64 *now)
{
	u32 seconds;

	/* The host may write both with an interrupt between two reads. */
	do {
		seconds = READ_ONCE(lguest_data.seconds);
		barrier();
		now->tv_nsec = READ_ONCE(lguest_data.nanoseconds);
		barrier();
	} while (unlikely(READ_ONCE(lguest_data.seconds) != seconds));
	now->tv_sec = seconds;
}

static int set_wall_clock(const struct timespec64 *now)
{
	return -EPERM;
}

static u64 read_clock(struct clocksource *clock)
{
	struct timespec64 now;

	read_wall_clock(&now);
	return timespec64_to_ns(&now);
}

static struct clocksource lguest_clock = {
	.name	= "lguest",
	.rating	= 200,
	.read	= read_clock,
	.mask	= CLOCKSOURCE_MASK(64),
	.flags	= CLOCK_SOURCE_IS_CONTINUOUS,
};

static int set_next_event(unsigned long nanoseconds, struct clock_event_device *device)
{
	lguest_hcall(LHCALL_SET_CLOCKEVENT, nanoseconds, 0, 0, 0);
	return 0;
}

static int shut_down(struct clock_event_device *device)
{
	lguest_hcall(LHCALL_SET_CLOCKEVENT, 0, 0, 0, 0);
	return 0;
}

static struct clock_event_device lguest_clockevent = {
	.name			= "lguest",
	.features		= CLOCK_EVT_FEAT_ONESHOT,
	.rating			= 200,
	.irq			= CLOCK_IRQ,
	.set_next_event		= set_next_event,
	.set_state_shutdown	= shut_down,
};

static irqreturn_t clock_interrupt(int irq, void *device)
{
	lguest_clockevent.event_handler(&lguest_clockevent);
	return IRQ_HANDLED;
}

static void __init init_timer(void)
{
	int err;

	if (!lguest_data.tsc_khz)
		clocksource_register_hz(&lguest_clock, NSEC_PER_SEC);
	err = request_irq(CLOCK_IRQ, clock_interrupt, IRQF_TIMER | IRQF_NOBALANCING,
			  "clock", NULL);
	if (err)
		panic("lguest: cannot have the clock's interrupt: %d", err);
	lguest_clockevent.cpumask = cpumask_of(0);
	clockevents_config_and_register(&lguest_clockevent, NSEC_PER_SEC,
					1000, U32_MAX);
}

void __init lguest_init_time(void)
{
	x86_platform.calibrate_cpu = tsc_khz_of_host;
	x86_platform.calibrate_tsc = tsc_khz_of_host;
	x86_platform.get_wallclock = read_wall_clock;
	x86_platform.set_wallclock = set_wall_clock;
	x86_init.timers.timer_init = init_timer;
	if (lguest_data.tsc_khz) {
		/* Nothing is better to measure it by, nor to watch over it. */
		setup_force_cpu_cap(X86_FEATURE_TSC_KNOWN_FREQ);
		setup_force_cpu_cap(X86_FEATURE_TSC_RELIABLE);
	} else {
		/* Or Linux would measure it by a timer that is not there. */
		setup_clear_cpu_cap(X86_FEATURE_TSC);
	}
}
