// SPDX-License-Identifier: GPL-2.0
/*
 * Descriptor tables: the host keeps its own, safe ones, and receives what Linux
 * writes into its. Most of it changes nothing, so what was sent last is kept
 * here and compared; the rest is queued, and has reached the host when Linux
 * loads the table.
 */
#include <linux/percpu.h>
#include <linux/string.h>

#include <asm/desc.h>
#include <asm/irq_vectors.h>
#include <asm/lguest.h>

#include "port.h"

static struct desc_struct told_gdt[GDT_ENTRIES];
static gate_desc told_idt[IDT_ENTRIES];
static struct desc_struct told_tls[GDT_ENTRY_TLS_ENTRIES];

static void tell_gdt_entry(int slot, const struct desc_struct *descriptor)
{
	u32 words[2];

	if (!memcmp(&told_gdt[slot], descriptor, sizeof(*descriptor)))
		return;
	told_gdt[slot] = *descriptor;
	memcpy(words, descriptor, sizeof(words));
	lguest_queue(LHCALL_LOAD_GDT_ENTRY, slot, words[0], words[1], 0);
}

void lguest_load_gdt(const struct desc_ptr *table)
{
	const struct desc_struct *gdt = (const void *)table->address;
	int slot;

	for (slot = 0; slot < GDT_ENTRIES; slot++)
		tell_gdt_entry(slot, &gdt[slot]);
	lguest_hcall(LHCALL_FLUSH_ASYNC, 0, 0, 0, 0);
}

void lguest_write_gdt_entry(struct desc_struct *gdt, int slot,
			    const void *descriptor, int type)
{
	native_write_gdt_entry(gdt, slot, descriptor, type);
	tell_gdt_entry(slot, &gdt[slot]);
	lguest_hcall_unless_batching(LHCALL_FLUSH_ASYNC, 0, 0, 0, 0);
}

/* Without a call of memcmp(), which takes longer than all else of a switch here. */
static bool is_told(const struct desc_struct *tls)
{
	const u32 *told = (const u32 *)told_tls, *next = (const u32 *)tls;

	BUILD_BUG_ON(sizeof(told_tls) != 6 * sizeof(u32));
	return told[0] == next[0] && told[1] == next[1] && told[2] == next[2] &&
	       told[3] == next[3] && told[4] == next[4] && told[5] == next[5];
}

/*
 * The host loads all segment registers anew whenever it comes back, so that
 * none may name a descriptor that is gone. In the kernel only gs is still the
 * program's. A context switch loads the next one's afterwards.
 */
void lguest_load_tls(struct thread_struct *thread)
{
	u16 gs;

	if (is_told(thread->tls_array))
		return;
	native_load_tls(thread, smp_processor_id());
	/* The thread may be gone by the time that the host looks. */
	memcpy(told_tls, thread->tls_array, sizeof(told_tls));
	savesegment(gs, gs);
	loadsegment(gs, 0);
	lguest_hcall_unless_batching(LHCALL_LOAD_TLS, __pa_symbol(told_tls), 0, 0, 0);
	if (!lguest_batching)
		loadsegment(gs, gs);
}

/* Whether anything can come by this vector: exceptions, interrupts, int $0x80. */
static bool is_used(int vector)
{
	return vector < FIRST_EXTERNAL_VECTOR + LGUEST_IRQS ||
	       vector == IA32_SYSCALL_VECTOR;
}

void lguest_write_idt_entry(gate_desc *idt, int vector, const gate_desc *gate)
{
	gate_desc told = *gate;
	u32 words[2];

	native_write_idt_entry(idt, vector, gate);
	if (!is_used(vector))
		return;
	if (vector == IA32_SYSCALL_VECTOR && gate_offset(gate) == (u32)entry_INT80_32) {
		/* See entry.S. */
		pack_gate(&told, GATE_TRAP, (u32)lguest_int80, 3, 0, __KERNEL_CS);
	}
	if (!memcmp(&told_idt[vector], &told, sizeof(told)))
		return;
	told_idt[vector] = told;
	memcpy(words, &told, sizeof(words));
	lguest_queue(LHCALL_LOAD_IDT_ENTRY, vector, words[0], words[1], 0);
}

void lguest_load_idt(const struct desc_ptr *table)
{
	lguest_hcall(LHCALL_FLUSH_ASYNC, 0, 0, 0, 0);
}
