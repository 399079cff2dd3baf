// SPDX-License-Identifier: GPL-2.0
/*
 * The first C function: plugs the port into the places that Linux has for
 * platforms, sets which features of the processor a guest has, and goes
 * on to Linux's own first function.
 */
#include <linux/init.h>
#include <linux/linkage.h>

#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/e820/api.h>
#include <asm/lguest.h>
#include <asm/lguest_versions.h>
#include <asm/paravirt.h>
#include <asm/setup.h>
#include <asm/x86_init.h>

#include "../kernel/cpu/cpu.h"
#include "port.h"

/*
 * To Linux, any processor without peculiarities. It warns of those that it has
 * no description of, and its own are about registers that a guest has not.
 */
static const struct cpu_dev lguest_cpu = {
	.c_vendor	= "lguest",
	.c_ident	= { "GenuineIntel", "AuthenticAMD" },
	.c_x86_vendor	= X86_VENDOR_UNKNOWN,
};
cpu_dev_register(lguest_cpu);

/*
 * cpuid cannot be kept from showing a guest the real processor. These
 * need privileged instructions, control registers or model-specific registers,
 * or are refused by the host (large pages).
 */
static const unsigned int absent_features[] __initconst = {
	X86_FEATURE_APIC, X86_FEATURE_X2APIC, X86_FEATURE_TSC_DEADLINE_TIMER,
	X86_FEATURE_MCE, X86_FEATURE_MCA, X86_FEATURE_MTRR, X86_FEATURE_PAT,
	X86_FEATURE_VME, X86_FEATURE_PSE, X86_FEATURE_PSE36, X86_FEATURE_PCID,
	X86_FEATURE_INVPCID, X86_FEATURE_SEP, LGUEST_FAST_SYSCALLS,
	X86_FEATURE_MWAIT, X86_FEATURE_WAITPKG,
	X86_FEATURE_SMEP, X86_FEATURE_SMAP, X86_FEATURE_UMIP, X86_FEATURE_PKU,
	X86_FEATURE_XSAVE, X86_FEATURE_DTES64, X86_FEATURE_ARCH_PERFMON,
	X86_FEATURE_ACPI, X86_FEATURE_ACC, X86_FEATURE_VMX, X86_FEATURE_SVM,
	X86_FEATURE_ARCH_CAPABILITIES, X86_FEATURE_SPEC_CTRL,
	X86_FEATURE_INTEL_STIBP, X86_FEATURE_SPEC_CTRL_SSBD,
	X86_FEATURE_AMD_IBPB, X86_FEATURE_AMD_IBRS, X86_FEATURE_AMD_STIBP,
	X86_FEATURE_AMD_SSBD, X86_FEATURE_VIRT_SSBD, X86_FEATURE_IBPB,
	X86_FEATURE_IBRS, X86_FEATURE_STIBP, X86_FEATURE_FLUSH_L1D,
	/* Should the host's machine be virtual, its hypervisor is not ours. */
	X86_FEATURE_HYPERVISOR,
};

static const unsigned int present_features[] __initconst = {
	/* So that __flush_tlb_all() means all, not the user half. */
	X86_FEATURE_PGE,
};

/*
 * Takes the place of e820__memory_setup_default(), which does not believe in a
 * map of one entry.
 */
static char *__init setup_memory(void)
{
	int i;

	for (i = 0; i < boot_params.e820_entries; i++) {
		struct boot_e820_entry *entry = &boot_params.e820_table[i];

		e820__range_add(entry->addr, entry->size, entry->type);
	}
	e820__update_table(e820_table);
	return "lguest";
}

/* None of a PC's devices is there. */
static void __init set_legacy_features(void)
{
	x86_platform.legacy.i8042 = X86_LEGACY_I8042_PLATFORM_ABSENT;
	x86_platform.legacy.rtc = 0;
	x86_platform.legacy.warm_reset = 0;
	x86_platform.legacy.reserve_bios_regions = 0;
	x86_platform.legacy.devices.pnpbios = 0;
}

#ifdef LGUEST_IO_DELAY_IN_PV_OPS
static void no_io_delay(void)
{
}
#endif

asmlinkage __visible void __init lguest_start_kernel(void)
{
	struct desc_ptr gdt = {
		.size = GDT_SIZE - 1,
		.address = (unsigned long)get_cpu_gdt_rw(0),
	};
	unsigned int i;

	/* As startup_32 leaves them. */
	load_gdt(&gdt);
	loadsegment(ds, __USER_DS);
	loadsegment(es, __USER_DS);
	loadsegment(fs, __KERNEL_PERCPU);
	loadsegment(gs, 0);

	for (i = 0; i < ARRAY_SIZE(absent_features); i++)
		setup_clear_cpu_cap(absent_features[i]);
	for (i = 0; i < ARRAY_SIZE(present_features); i++)
		setup_force_cpu_cap(present_features[i]);

	pv_info.name = "lguest";
#ifdef LGUEST_IO_DELAY_IN_PV_OPS
	pv_ops.cpu.io_delay = no_io_delay;
#else
	pv_info.io_delay = false;
#endif
	x86_init.resources.memory_setup = setup_memory;
	x86_init.resources.probe_roms = x86_init_noop;
	x86_platform.set_legacy_features = set_legacy_features;
	x86_platform.realmode_reserve = x86_init_noop;
	x86_platform.realmode_init = x86_init_noop;

	lguest_init_mmu();
	lguest_init_irqs();
	lguest_init_time();
	lguest_init_console();
	lguest_init_power();

	i386_start_kernel();
}
