/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/entry-common.h: on the way back to user mode the host
 * is sent the page whose flush has waited for it (mmu.c).
 */
#ifndef _ASM_X86_LGUEST_ENTRY_COMMON_H
#define _ASM_X86_LGUEST_ENTRY_COMMON_H

#include_next <asm/entry-common.h>

/* mmu.c */
extern unsigned long lguest_fault;
extern unsigned long lguest_late_flush;
void lguest_flush_late(void);

static inline void lguest_exit_to_user_mode_prepare(struct pt_regs *regs,
						    unsigned long ti_work)
{
	if (unlikely(lguest_late_flush))
		lguest_flush_late();
	lguest_fault = 0;
	arch_exit_to_user_mode_prepare(regs, ti_work);
}

#undef arch_exit_to_user_mode_prepare
#define arch_exit_to_user_mode_prepare lguest_exit_to_user_mode_prepare

#endif /* _ASM_X86_LGUEST_ENTRY_COMMON_H */
