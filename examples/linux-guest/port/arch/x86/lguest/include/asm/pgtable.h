/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/pgtable.h: from here to lguest_update_task_stack(),
 * what a context switch requests of the host is queued, so that the host is
 * entered once and not three times.
 */
#ifndef _ASM_X86_LGUEST_PGTABLE_H
#define _ASM_X86_LGUEST_PGTABLE_H

#include_next <asm/pgtable.h>
#include <asm/lguest.h>

#ifndef __ASSEMBLY__
#define __HAVE_ARCH_START_CONTEXT_SWITCH
#define arch_start_context_switch(prev)	((void)(lguest_batching = true))
#endif

#endif /* _ASM_X86_LGUEST_PGTABLE_H */
