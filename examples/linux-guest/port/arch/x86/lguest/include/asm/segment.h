/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/segment.h: the kernel's selectors request ring 1, where
 * this kernel runs. Code and stack selectors must name the ring they are in;
 * the host raises the descriptors themselves to ring 1.
 */
#ifndef _ASM_X86_LGUEST_SEGMENT_H
#define _ASM_X86_LGUEST_SEGMENT_H

#include_next <asm/segment.h>
#include <asm/lguest.h>

#undef __KERNEL_CS
#undef __KERNEL_DS
#define __KERNEL_CS	(GDT_ENTRY_KERNEL_CS * 8 + LGUEST_RPL)
#define __KERNEL_DS	(GDT_ENTRY_KERNEL_DS * 8 + LGUEST_RPL)

#endif /* _ASM_X86_LGUEST_SEGMENT_H */
