// SPDX-License-Identifier: GPL-2.0-only
/*
 * What each of the host's processors needs before it can run a guest, also when it comes online later:
 *
 * - Its GDT gets the Switcher's two segments, at indices that Linux leaves free. The Switcher runs on them in
 *   both worlds.
 * - Global pages are turned off (CR4.PGE). A global TLB entry survives the change of CR3, so the guest would
 *   see the host's kernel instead of itself. Off for as long as the module is loaded: turning it off and on
 *   again at each entry costs two more TLB flushes. (Where the kernel turns it on by itself, it is off again at the
 *   next entry: lg_compat.h.)
 *
 * A processor that goes offline keeps both, since there is no callback at which it runs no guest any more: before 5.12, Linux
 * moves tasks away after all that a module can have called. Its CR4 is new when it comes back, and its GDT is what it was.
 */
#include <linux/build_bug.h>
#include <linux/cpuhotplug.h>
#include <linux/irqflags.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/smp.h>
#include <asm/desc.h>
#include <asm/segment.h>

#include "lg_compat.h"
#include "lg_shim.h"

/* Where the Switcher, and a guest of the i386 Linux's own, expect the kernel's. */
static_assert(LG_GDT_ENTRIES == GDT_ENTRIES);
static_assert(LG_GDT_KERNEL_CS == GDT_ENTRY_KERNEL_CS);
static_assert(LG_GDT_KERNEL_DS == GDT_ENTRY_KERNEL_DS);
static_assert(LG_GDT_TSS == GDT_ENTRY_TSS);
static_assert(LG_GDT_DOUBLE_FAULT_TSS == GDT_ENTRY_DOUBLEFAULT_TSS);

static DEFINE_PER_CPU(bool, has_segments);
static DEFINE_PER_CPU(bool, had_global_pages);
static enum cpuhp_state hotplug_state;

static int prepare_cpu(unsigned int cpu)
{
	static const struct desc_struct code = GDT_ENTRY_INIT(LG_CODE_FLAGS, 0, 0xfffff);
	static const struct desc_struct data = GDT_ENTRY_INIT(LG_DATA_FLAGS, 0, 0xfffff);
	struct desc_struct *gdt = get_cpu_gdt_rw(cpu);
	unsigned long flags;

	if (!per_cpu(has_segments, cpu)) {
		if (gdt[LG_GDT_CS].p || gdt[LG_GDT_DS].p) {
			pr_err("lg: descriptors %d and %d in the GDT of CPU %u are taken by something else\n", LG_GDT_CS, LG_GDT_DS, cpu);
			return -EBUSY;
		}
		gdt[LG_GDT_CS] = code;
		gdt[LG_GDT_DS] = data;
		per_cpu(has_segments, cpu) = true;
	}

	local_irq_save(flags);
	__this_cpu_write(had_global_pages, lg_global_pages_off());
	local_irq_restore(flags);
	return 0;
}

static void restore_global_pages(void *unused)
{
	if (__this_cpu_read(had_global_pages))
		lg_global_pages_on();
}

/* When no guest runs any more, and no more processors are prepared. */
static void restore_all(void)
{
	static const struct desc_struct none;
	int cpu;

	on_each_cpu(restore_global_pages, NULL, true);
	for_each_possible_cpu(cpu) {
		struct desc_struct *gdt = get_cpu_gdt_rw(cpu);

		if (per_cpu(has_segments, cpu))
			gdt[LG_GDT_CS] = gdt[LG_GDT_DS] = none;
	}
}

int lg_cpu_init(void)
{
	int state = -ENOMEM;

	if (!lg_should_fail())
		state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "lguest:online", prepare_cpu, NULL);
	if (state < 0) {
		restore_all();
		return state;
	}
	hotplug_state = state;
	return 0;
}

void lg_cpu_exit(void)
{
	cpuhp_remove_state(hotplug_state);
	restore_all();
}
