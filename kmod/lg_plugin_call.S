/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A call that can be come back from without its return: what setjmp() and longjmp() do elsewhere. lg_plugin.c describes
 * its use. Both functions are called by C as asmlinkage.
 */
#include <linux/linkage.h>
#include <asm/nospec-branch.h>

/* bool lg_plugin_call(void (*call)(void *), void *data, void **stack) */
SYM_FUNC_START(lg_plugin_call)
	/* The registers that a function must preserve. The frame stays as it is until one of the two returns. */
	pushl	%ebp
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	movl	28(%esp), %eax
	movl	%esp, (%eax)
	movl	20(%esp), %eax
	pushl	24(%esp)
	CALL_NOSPEC eax
	addl	$4, %esp
	xorl	%eax, %eax
.Lreturn:
	popl	%edi
	popl	%esi
	popl	%ebx
	popl	%ebp
	RET
SYM_FUNC_END(lg_plugin_call)

/* void lg_plugin_return(void *stack): returns true from the lg_plugin_call() that left it there. */
SYM_FUNC_START(lg_plugin_return)
	movl	4(%esp), %esp
	movl	$1, %eax
	cld
	jmp	.Lreturn
SYM_FUNC_END(lg_plugin_return)
