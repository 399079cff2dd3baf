// SPDX-License-Identifier: GPL-2.0
/*
 * Hypercalls that wait in a ring for the next one that does not, and the
 * memory that host and guest share.
 */
#include <linux/entry-common.h>
#include <linux/export.h>
#include <linux/irqflags.h>

#include <asm/idtentry.h>
#include <asm/irq_vectors.h>
#include <asm/lguest.h>
#include <asm/page_types.h>

#include "port.h"

/* Initialized, not zero, so that head.S does not have to. */
struct lguest_data lguest_data = {
	.ring_status = { [0 ... LGUEST_RING_SIZE - 1] = LGUEST_RING_DONE },
	.blocked_interrupts = ~0,
	.noirq_start = (u32)lguest_noirq_start,
	.noirq_end = (u32)lguest_noirq_end,
	.kernel_address = PAGE_OFFSET,
	.syscall_vec = IA32_SYSCALL_VECTOR,
};
EXPORT_SYMBOL_GPL(lguest_data);
EXPORT_SYMBOL_GPL(lguest_send_interrupts);

/* The next entry of the ring. */
static unsigned int ring_next;

/* Whether a context switch is going on, in which calls are queued. */
bool lguest_batching;

/* Whether a call waits in the ring. */
bool lguest_queued(void)
{
	unsigned int last = (ring_next + LGUEST_RING_SIZE - 1) % LGUEST_RING_SIZE;

	return READ_ONCE(lguest_data.ring_status[last]) != LGUEST_RING_DONE;
}

/*
 * Queues a hypercall, with interrupts off. When the ring is full, the host
 * empties it first.
 */
static __always_inline void queue(u32 number, u32 a, u32 b, u32 c, u32 d)
{
	if (READ_ONCE(lguest_data.ring_status[ring_next]) != LGUEST_RING_DONE) {
		lguest_hcall(number, a, b, c, d);
	} else {
		lguest_data.ring[ring_next] = (struct lguest_hcall_args){
			.number = number,
			.args = { a, b, c, d },
		};
		/* The host may look at any instruction. */
		barrier();
		WRITE_ONCE(lguest_data.ring_status[ring_next], LGUEST_RING_PENDING);
		ring_next = (ring_next + 1) % LGUEST_RING_SIZE;
	}
}

void lguest_queue(u32 number, u32 a, u32 b, u32 c, u32 d)
{
	unsigned long flags;

	raw_local_irq_save(flags);
	queue(number, a, b, c, d);
	raw_local_irq_restore(flags);
}

/* Linux switches with interrupts off. */
void lguest_hcall_unless_batching(u32 number, u32 a, u32 b, u32 c, u32 d)
{
	if (lguest_batching)
		queue(number, a, b, c, d);
	else
		lguest_hcall(number, a, b, c, d);
}

/*
 * lguest_iret was about to turn interrupts on while one waits. The registers
 * are those that it would have returned to, so that to Linux the interrupt
 * comes right after the return, with all that may follow: a reschedule, a
 * signal.
 */
__visible noinstr void lguest_interrupts_wait(struct pt_regs *regs,
					      unsigned long error_code)
{
	irqentry_state_t state = irqentry_enter(regs);

	instrumentation_begin();
	local_irq_enable();
	local_irq_disable();
	instrumentation_end();
	irqentry_exit(regs, state);
}
