/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/idtentry.h: two more entry points into the kernel,
 * which entry.S jumps to as if a trap had happened. entry_32.S makes their
 * assembly, like that of all others, when it includes this file.
 */
#ifndef _ASM_X86_LGUEST_IDTENTRY_H
#define _ASM_X86_LGUEST_IDTENTRY_H

#include_next <asm/idtentry.h>

#ifdef __ASSEMBLY__

/* An interrupt waits that the coming iret would let in. */
idtentry 0 asm_lguest_interrupts_wait lguest_interrupts_wait has_error_code=0
/* iret has faulted; the handler is Linux's. */
idtentry 0 asm_lguest_iret_error iret_error has_error_code=0

#else

__visible noinstr void lguest_interrupts_wait(struct pt_regs *regs,
					      unsigned long error_code);

#endif /* __ASSEMBLY__ */
#endif /* _ASM_X86_LGUEST_IDTENTRY_H */
