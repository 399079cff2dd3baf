/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/switch_to.h: where the processor finds the stack of
 * the next task when that traps.
 *
 * Bare Linux gives the processor a constant entry stack and moves to the
 * task's own in software. Here the host is given the task's stack, which must
 * be pinned to its last page; the entry stack has an unmapped page next to it.
 * As this is the last of a switch's requests, it takes the queued others
 * (page tables, thread-local storage) along.
 */
#ifndef _ASM_X86_LGUEST_SWITCH_TO_H
#define _ASM_X86_LGUEST_SWITCH_TO_H

#include_next <asm/switch_to.h>

/* mmu.c */
void lguest_update_task_stack(struct task_struct *task);

#define update_task_stack(task)	lguest_update_task_stack(task)

#endif /* _ASM_X86_LGUEST_SWITCH_TO_H */
