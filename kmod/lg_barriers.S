/* SPDX-License-Identifier: GPL-2.0-only */
/* Barriers against speculation that the kernel has as assembly only. */
#include <linux/linkage.h>
#include <asm/nospec-branch.h>

/*
 * The processor predicts returns by a stack of its own, which a guest has filled. As KVM does after a guest, by
 * the same switches (Linux's Documentation/admin-guide/hw-vuln/spectre.rst).
 */
SYM_FUNC_START(lg_fill_return_stack)
	FILL_RETURN_BUFFER %ecx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE
	RET
SYM_FUNC_END(lg_fill_return_stack)

/* The same after a barrier for indirect branches, on processors where that leaves these predictions. */
#ifdef X86_BUG_IBPB_NO_RET
SYM_FUNC_START(lg_fill_return_stack_after_barrier)
	FILL_RETURN_BUFFER %ecx, RSB_CLEAR_LOOPS, X86_BUG_IBPB_NO_RET
	RET
SYM_FUNC_END(lg_fill_return_stack_after_barrier)
#endif
