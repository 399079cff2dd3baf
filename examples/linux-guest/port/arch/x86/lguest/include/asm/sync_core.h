/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/sync_core.h: Linux makes the processor forget what it
 * fetched ahead by an iret to the next instruction. That would work in ring 1,
 * but no iret other than entry.S's is to be in this kernel; cpuid does the same.
 */
#ifndef _ASM_X86_LGUEST_SYNC_CORE_H
#define _ASM_X86_LGUEST_SYNC_CORE_H

#include_next <asm/sync_core.h>

static __always_inline void lguest_sync_core(void)
{
	unsigned int eax = 0, ebx, ecx = 0, edx;

	asm volatile("cpuid"
		     : "+a" (eax), "=b" (ebx), "+c" (ecx), "=d" (edx)
		     : : "memory");
}

#define sync_core()			lguest_sync_core()
/* Only iret leads to user mode. */
#define sync_core_before_usermode()	barrier()

#endif /* _ASM_X86_LGUEST_SYNC_CORE_H */
