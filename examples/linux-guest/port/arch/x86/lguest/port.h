/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the port have to do with each other. */
#ifndef _X86_LGUEST_PORT_H
#define _X86_LGUEST_PORT_H

#include <linux/init.h>
#include <linux/linkage.h>

/* entry.S */
extern const char lguest_noirq_start[], lguest_noirq_end[];
extern const char lguest_int80[];

/* start.c, called by head.S */
asmlinkage __visible void __init lguest_start_kernel(void);

/* mmu.c, irq.c, time.c, console.c, power.c: what start.c plugs into Linux. */
void __init lguest_init_mmu(void);
void __init lguest_init_irqs(void);
void __init lguest_init_time(void);
void __init lguest_init_console(void);
void __init lguest_init_power(void);

#endif /* _X86_LGUEST_PORT_H */
