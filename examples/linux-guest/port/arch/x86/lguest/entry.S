/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The way into and out of this kernel, where the interrupt flag changes
 * together with the stack.
 *
 * A word in memory cannot be changed by the same instruction that changes the
 * stack. So the host is given a range of code (noirq_start, noirq_end) in which
 * it delivers no interrupt; a fault in there is all right.
 *
 * lguest_int80 takes the place of an interrupt gate for int $0x80. An
 * interrupt gate for a vector above 31 would be a device's to the host; a trap
 * gate goes straight to ring 1, but leaves the flag up.
 *
 * lguest_iret takes the place of the instruction iret (asm/irqflags.h makes it
 * a macro).
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/lguest.h>
#include <asm/processor-flags.h>
#include <asm/segment.h>

	.section .entry.text, "ax"

/*
 * The stack holds eip, cs, eflags and, for a return to user mode, esp and ss.
 * The data segments are those of where we return to. Interrupts are off.
 */
SYM_CODE_START(lguest_iret)
	testl	$X86_EFLAGS_IF, 8(%esp)
	jz	.Liret				/* They stay off. */
	testl	$X86_EFLAGS_IF, %ss:lguest_data + LGUEST_DATA_irq_pending
	jnz	asm_lguest_interrupts_wait
SYM_INNER_LABEL(lguest_noirq_start, SYM_L_GLOBAL)
	movl	$X86_EFLAGS_IF, %ss:lguest_data + LGUEST_DATA_irq_enabled
.Liret:
	.byte	0xcf			/* iret; the mnemonic is a macro */
SYM_CODE_END(lguest_iret)

/* As on entry by an interrupt gate: only the flag has changed. */
SYM_CODE_START(lguest_int80)
	movl	$0, %ss:lguest_data + LGUEST_DATA_irq_enabled
SYM_INNER_LABEL(lguest_noirq_end, SYM_L_GLOBAL)
	jmp	entry_INT80_32
SYM_CODE_END(lguest_int80)

/*
 * The new segments or stack cannot be loaded. The old stack is as it was, but
 * the flag is up; it is the program's interrupts that were to be on.
 */
SYM_CODE_START_LOCAL(lguest_iret_fault)
	movl	$0, %ss:lguest_data + LGUEST_DATA_irq_enabled
	jmp	asm_lguest_iret_error
SYM_CODE_END(lguest_iret_fault)
	_ASM_EXTABLE(.Liret, lguest_iret_fault)

	.section .noinstr.text, "ax"

/*
 * Interrupts are on now, and one is waiting. If the host still holds it
 * back, it sets irq_pending again: a second request would be in vain. Keeps
 * all registers, as those who turn interrupts on seldom come here.
 */
SYM_FUNC_START(lguest_send_interrupts)
	movl	$0, lguest_data + LGUEST_DATA_irq_pending
	pushl	%eax
	movl	$LHCALL_SEND_INTERRUPTS, %eax
	int	$LGUEST_TRAP_ENTRY
	popl	%eax
	RET
SYM_FUNC_END(lguest_send_interrupts)
