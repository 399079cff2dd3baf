/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/hw_breakpoint.h: there is room for no breakpoint, so
 * that a request for one (ptrace, perf) is refused instead of waiting for it.
 */
#ifndef _ASM_X86_LGUEST_HW_BREAKPOINT_H
#define _ASM_X86_LGUEST_HW_BREAKPOINT_H

#include_next <asm/hw_breakpoint.h>

#undef hw_breakpoint_slots
#define hw_breakpoint_slots(type)	0

#endif /* _ASM_X86_LGUEST_HW_BREAKPOINT_H */
