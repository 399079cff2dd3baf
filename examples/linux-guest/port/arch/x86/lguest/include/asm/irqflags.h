/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Takes the place of Linux's asm/irqflags.h, as a whole: interrupts on, off,
 * halt, and the return from an interrupt.
 *
 * Ring 1 may not touch the processor's interrupt flag: cli and sti trap, popf
 * and iret leave it alone without a word. The flag is a word of lguest_data
 * instead, which costs no trap. When it goes up the host may be holding an
 * interrupt back (irq_pending); it has to be requested.
 */
#ifndef _X86_IRQFLAGS_H_
#define _X86_IRQFLAGS_H_

#include <asm/lguest.h>
#include <asm/lguest_versions.h>
#include <asm/processor-flags.h>

#ifndef __ASSEMBLY__

#include <asm/nospec-branch.h>
#include <linux/types.h>

/* Linux 6.1 expects this of the header; later ones define it themselves. */
#ifndef __cpuidle
#define __cpuidle __section(".cpuidle.text")
#endif

static __always_inline unsigned long native_save_fl(void)
{
	return READ_ONCE(lguest_data.irq_enabled);
}

static __always_inline void native_irq_disable(void)
{
	asm volatile("movl $0, %0" : "=m" (lguest_data.irq_enabled) : : "memory");
}

static __always_inline void native_irq_enable(void)
{
	/*
	 * Should an interrupt become pending between the two, the host delivers
	 * it by itself. In assembly, or the call would cost registers where it is
	 * not made.
	 */
	asm volatile("movl %[flag], %[enabled]\n\t"
		     "cmpl $0, %[pending]\n\t"
		     "je 1f\n\t"
		     "call lguest_send_interrupts\n"
		     "1:"
		     : [enabled] "=m" (lguest_data.irq_enabled)
		     : [pending] "m" (lguest_data.irq_pending),
		       [flag] "i" (X86_EFLAGS_IF)
		     : "memory", "cc");
}

/* The interrupt that ends it finds interrupts on: the host sees to that. */
static __always_inline void native_safe_halt(void)
{
	lguest_hcall(LHCALL_HALT, 0, 0, 0, 0);
}

static __always_inline void native_halt(void)
{
	lguest_hcall(LHCALL_HALT, 0, 0, 0, 0);
}

static __always_inline int native_irqs_disabled_flags(unsigned long flags)
{
	return !(flags & X86_EFLAGS_IF);
}

static __always_inline unsigned long native_local_irq_save(void)
{
	unsigned long flags = native_save_fl();

	native_irq_disable();

	return flags;
}

static __always_inline void native_local_irq_restore(unsigned long flags)
{
	if (!native_irqs_disabled_flags(flags))
		native_irq_enable();
}

#ifdef LGUEST_PARAVIRT_IN_IRQFLAGS
#include <asm/paravirt.h>
#endif
#ifndef LGUEST_HALT_IN_PV_OPS
static __always_inline void arch_safe_halt(void)
{
	native_safe_halt();
}

static __always_inline void halt(void)
{
	native_halt();
}
#endif

#define arch_local_save_flags		native_save_fl
#define arch_local_irq_disable		native_irq_disable
#define arch_local_irq_enable		native_irq_enable
#define arch_local_irq_save		native_local_irq_save
#define arch_local_irq_restore		native_local_irq_restore
#define arch_irqs_disabled_flags	native_irqs_disabled_flags

static __always_inline int arch_irqs_disabled(void)
{
	return native_irqs_disabled_flags(native_save_fl());
}

#else /* __ASSEMBLY__ */

/* Assembly uses iret where it means the flag as well: see entry.S. */
.macro iret
	jmp lguest_iret
.endm

#endif /* __ASSEMBLY__ */
#endif /* _X86_IRQFLAGS_H_ */
