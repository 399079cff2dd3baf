// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts: takes the place of the PC's interrupt controllers. Virtual
 * interrupt N comes by vector 0x20 + N and is masked by bit N of a word in
 * lguest_data; there is nothing to acknowledge.
 */
#include <linux/bits.h>
#include <linux/irq.h>
#include <linux/percpu.h>

#include <asm/hw_irq.h>
#include <asm/i8259.h>
#include <asm/irq_vectors.h>
#include <asm/lguest.h>
#include <asm/x86_init.h>

#include "port.h"

static void lguest_mask_irq(struct irq_data *data)
{
	lguest_data.blocked_interrupts |= BIT(data->irq);
}

static void lguest_unmask_irq(struct irq_data *data)
{
	lguest_data.blocked_interrupts &= ~BIT(data->irq);
	/* One that came meanwhile waits, but the host has not reported it. */
	lguest_hcall(LHCALL_SEND_INTERRUPTS, 0, 0, 0, 0);
}

static void lguest_ack_irq(struct irq_data *data)
{
}

static struct irq_chip lguest_irq_chip = {
	.name		= "lguest",
	.irq_mask	= lguest_mask_irq,
	.irq_unmask	= lguest_unmask_irq,
	.irq_ack	= lguest_ack_irq,
};

/* Takes the place of init_ISA_irqs(). */
static void __init init_irqs(void)
{
	int irq;

	for (irq = 0; irq < LGUEST_IRQS; irq++) {
		/* Those that a PC has are there already. */
		int err = irq_alloc_desc_at(irq, 0);

		if (err < 0 && err != -EEXIST)
			panic("lguest: no room for interrupt %d: %d", irq, err);
		irq_set_chip_and_handler_name(irq, &lguest_irq_chip,
					      handle_edge_irq, "edge");
		__this_cpu_write(vector_irq[FIRST_EXTERNAL_VECTOR + irq],
				 irq_to_desc(irq));
	}
}

void __init lguest_init_irqs(void)
{
	legacy_pic = &null_legacy_pic;
	x86_init.irqs.pre_vector_init = init_irqs;
}
