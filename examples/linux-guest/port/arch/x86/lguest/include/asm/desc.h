/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/desc.h: descriptor tables. The processor uses the
 * host's copies, so each change of an entry is sent to the host; loading a
 * table only has to make sure that they arrived. There is no LDT, and the TSS
 * is the host's.
 */
#ifndef _ASM_X86_LGUEST_DESC_H
#define _ASM_X86_LGUEST_DESC_H

#include_next <asm/desc.h>

/* descriptors.c */
void lguest_load_gdt(const struct desc_ptr *table);
void lguest_load_idt(const struct desc_ptr *table);
void lguest_write_gdt_entry(struct desc_struct *gdt, int slot,
			    const void *descriptor, int type);
void lguest_write_idt_entry(gate_desc *idt, int vector, const gate_desc *gate);
void lguest_load_tls(struct thread_struct *thread);

#undef load_TR_desc
#undef load_gdt
#undef load_idt
#undef load_tr
#undef load_ldt
#undef store_tr
#undef load_TLS
#undef set_ldt
#undef write_gdt_entry
#undef write_idt_entry
#undef store_ldt

#define load_gdt(table)			lguest_load_gdt(table)
#define native_load_gdt(table)		lguest_load_gdt(table)
#define load_idt(table)			lguest_load_idt(table)
#define native_load_idt(table)		lguest_load_idt(table)
#define write_gdt_entry(gdt, slot, descriptor, type) \
	lguest_write_gdt_entry(gdt, slot, descriptor, type)
#define write_idt_entry(idt, vector, gate) \
	lguest_write_idt_entry(idt, vector, gate)
#define load_TLS(thread, cpu)		lguest_load_tls(thread)

#define load_TR_desc()			do { } while (0)
#define load_tr(tr)			do { } while (0)
#define store_tr(tr)			((tr) = GDT_ENTRY_TSS * 8)
#define load_ldt(ldt)			do { } while (0)
#define store_ldt(ldt)			((ldt) = 0)
#define set_ldt(ldt, entries)		do { } while (0)
#define clear_LDT()			do { } while (0)

#endif /* _ASM_X86_LGUEST_DESC_H */
