/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/percpu.h: compare-and-exchange of 8 bytes, in the
 * versions that have it there. Until Linux has patched itself it calls a
 * substitute for processors without cmpxchg8b, which turns interrupts off by
 * cli. All processors that lguest runs on have the instruction.
 */
#ifndef _ASM_X86_LGUEST_PERCPU_H
#define _ASM_X86_LGUEST_PERCPU_H

#include_next <asm/percpu.h>

#ifdef percpu_cmpxchg64_op

/* There is one processor, so that its variables are like all others. */
static __always_inline bool lguest_try_cmpxchg8b(u64 *at, u64 *old, u64 new)
{
	bool equal;

	asm volatile("cmpxchg8b %[at]"
		     : "=@cce" (equal), [at] "+m" (*at), "+A" (*old)
		     : "b" ((u32)new), "c" ((u32)(new >> 32))
		     : "memory");
	return equal;
}

#undef percpu_cmpxchg64_op
#define percpu_cmpxchg64_op(size, qual, _var, _oval, _nval)		\
({									\
	u64 old__ = (_oval);						\
									\
	lguest_try_cmpxchg8b((u64 *)&(_var), &old__, (_nval));		\
	old__;								\
})

#undef percpu_try_cmpxchg64_op
#define percpu_try_cmpxchg64_op(size, qual, _var, _ovalp, _nval)	\
	likely(lguest_try_cmpxchg8b((u64 *)&(_var), (u64 *)(_ovalp), (_nval)))

#endif /* percpu_cmpxchg64_op */
#endif /* _ASM_X86_LGUEST_PERCPU_H */
