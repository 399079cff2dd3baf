/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/debugreg.h: a guest has no debug registers, hence no
 * hardware breakpoints. Single-stepping needs none, but the handler of the
 * debug exception reads its cause from register 6: of all causes, only the
 * single step is left.
 */
#ifndef _ASM_X86_LGUEST_DEBUGREG_H
#define _ASM_X86_LGUEST_DEBUGREG_H

#include_next <asm/debugreg.h>

#ifdef __KERNEL__

static __always_inline unsigned long lguest_get_debugreg(int number)
{
	return number == 6 ? DR6_RESERVED | DR_STEP : 0;
}

static __always_inline void lguest_set_debugreg(int number, unsigned long value)
{
}

#define native_get_debugreg(number)		lguest_get_debugreg(number)
#define native_set_debugreg(number, value)	lguest_set_debugreg(number, value)

/* Linux's own use those of the processor. */
#define hw_breakpoint_disable()			do { } while (0)
#define local_db_save()				0UL
#define local_db_restore(dr7)			((void)(dr7))

#endif /* __KERNEL__ */
#endif /* _ASM_X86_LGUEST_DEBUGREG_H */
