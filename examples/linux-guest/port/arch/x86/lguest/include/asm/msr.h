/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/msr.h: a guest has no model-specific registers. They
 * read as zero and forget what is written; the variants that can fail do.
 *
 * Left alone, each access would trap, and the first of each kind print a
 * warning.
 */
#ifndef _ASM_X86_LGUEST_MSR_H
#define _ASM_X86_LGUEST_MSR_H

#include_next <asm/msr.h>
#include <asm/lguest_versions.h>

#ifndef __ASSEMBLY__
#include <linux/errno.h>

static __always_inline unsigned long long lguest_read_msr(unsigned int msr)
{
	return 0;
}

static __always_inline void lguest_write_msr(unsigned int msr, u64 value)
{
}

static __always_inline int lguest_write_msr_safe(unsigned int msr, u64 value)
{
	return -EIO;
}

static __always_inline int
lguest_read_msr_into(unsigned int msr, unsigned long long *value)
{
	*value = 0;
	return -EIO;
}

/* All macros that read end in native_read_msr() and native_read_msr_safe(). */
#define native_read_msr(msr)		lguest_read_msr(msr)
#define __rdmsr(msr)			lguest_read_msr(msr)
#define wrmsr(msr, low, high)		lguest_write_msr(msr, (low) | (u64)(high) << 32)
#define wrmsr_safe(msr, low, high)	lguest_write_msr_safe(msr, (low) | (u64)(high) << 32)

#ifdef LGUEST_MSR_Q

#define native_read_msr_safe(msr, value) lguest_read_msr_into(msr, value)
#define native_rdmsrq(msr)		lguest_read_msr(msr)
#define __wrmsrq(msr, value)		lguest_write_msr(msr, value)
#define wrmsrq(msr, value)		lguest_write_msr(msr, value)
#define wrmsrns(msr, value)		lguest_write_msr(msr, value)
#define wrmsrq_safe(msr, value)		lguest_write_msr_safe(msr, value)
#define rdmsrq_safe(msr, value)		lguest_read_msr_into(msr, value)
#define rdpmc(counter)			lguest_read_msr(counter)

#else /* LGUEST_MSR_Q */

static __always_inline unsigned long long
lguest_read_msr_safe(unsigned int msr, int *err)
{
	*err = -EIO;
	return 0;
}

#define native_read_msr_safe(msr, err)	lguest_read_msr_safe(msr, err)
#define __wrmsr(msr, low, high)		lguest_write_msr(msr, (low) | (u64)(high) << 32)
#define wrmsrl(msr, value)		lguest_write_msr(msr, value)
#define wrmsrl_safe(msr, value)		lguest_write_msr_safe(msr, value)
#define rdmsrl_safe(msr, value)		lguest_read_msr_into(msr, value)

#endif /* LGUEST_MSR_Q */

/* Nor performance counters, which are read like such registers. */
#define native_read_pmc(counter)	lguest_read_msr(counter)

#endif /* __ASSEMBLY__ */
#endif /* _ASM_X86_LGUEST_MSR_H */
