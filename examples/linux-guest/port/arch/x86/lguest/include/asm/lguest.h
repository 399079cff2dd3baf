/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The lguest ABI: how this kernel makes requests of its host, and the memory
 * they share.
 *
 * Numbers and layouts are the protocol's (asm/lguest_hcall.h, linux/lguest.h
 * and linux/lguest_launcher.h of Linux 3.11); the calls are described in
 * arch-i386/src of the project that this port belongs to.
 */
#ifndef _ASM_X86_LGUEST_H
#define _ASM_X86_LGUEST_H

#include <asm/processor-flags.h>

/* Hypercalls: the number in eax, arguments in ebx, ecx, edx, esi. */
#define LHCALL_FLUSH_ASYNC	0	/* () */
#define LHCALL_LGUEST_INIT	1	/* (physical address of lguest_data) */
#define LHCALL_SHUTDOWN		2	/* (physical address of text, how) */
#define LHCALL_NEW_PGTABLE	4	/* (physical address of page directory) */
#define LHCALL_FLUSH_TLB	5	/* (0: user half, 1: everything) */
#define LHCALL_LOAD_IDT_ENTRY	6	/* (vector, low, high) */
#define LHCALL_SET_STACK	7	/* (selector, first byte above it, pages) */
#define LHCALL_SET_CLOCKEVENT	9	/* (nanoseconds; 0: never) */
#define LHCALL_HALT		10	/* () */
#define LHCALL_SET_PTE		14	/* (page directory, address, low, high) */
#define LHCALL_LOAD_TLS		16	/* (physical address of descriptors) */
#define LHCALL_NOTIFY		17	/* (physical address) */
#define LHCALL_LOAD_GDT_ENTRY	18	/* (slot, low, high) */
#define LHCALL_SEND_INTERRUPTS	19	/* () */
#define LHCALL_SWITCH_TO	20	/* (page directory, stack, pages, flush) */
#define LHCALL_FLUSH_USER_OF	21	/* (page directory, another, ..., another) */

/* The second argument of LHCALL_SHUTDOWN. */
#define LGUEST_SHUTDOWN_POWEROFF	1
#define LGUEST_SHUTDOWN_RESTART		2

/* The trap that is a hypercall. */
#define LGUEST_TRAP_ENTRY	0x1f

/* An ELF note from which the launcher reads the format of our page tables. */
#define LGUEST_NOTE_PAGING		1
#define LGUEST_NOTE_PAGING_2_LEVEL	1
#define LGUEST_NOTE_PAGING_PAE		2

/* This kernel runs in ring 1. */
#define LGUEST_RPL		1

/* Where the two words of lguest_data are that assembly needs. */
#define LGUEST_DATA_irq_enabled	0
#define LGUEST_DATA_irq_pending	20

#ifndef __ASSEMBLY__
#include <linux/compiler.h>
#include <linux/types.h>

/* Virtual interrupts; number 0 is the clock's. */
#define LGUEST_IRQS		32

#define LGUEST_RING_SIZE	64
#define LGUEST_RING_DONE	0xff
#define LGUEST_RING_PENDING	0

struct lguest_hcall_args {
	u32 number;
	u32 args[4];
};

/*
 * Shared with the host, which reads and writes it only while this kernel does
 * not run.
 */
struct lguest_data {
	/* X86_EFLAGS_IF or 0: this is the interrupt flag. */
	u32 irq_enabled;
	/* A bit for each masked interrupt. */
	u32 blocked_interrupts;
	/* By the host: the address of the last page fault that it handed on. */
	u32 cr2;
	/* By the host: the wall clock, at start and with each interrupt. */
	u32 seconds;
	u32 nanoseconds;
	/* By the host: X86_EFLAGS_IF when an interrupt waits for irq_enabled. */
	u32 irq_pending;
	/* The ring of queued hypercalls. */
	u8 ring_status[LGUEST_RING_SIZE];
	struct lguest_hcall_args ring[LGUEST_RING_SIZE];
	/* By the host: bytes at the top of the address space that are its own. */
	u32 reserve_mem;
	/* By the host: kHz of the time-stamp counter, 0 if it cannot be relied on. */
	u32 tsc_khz;
	/* No interrupt is delivered while noirq_start <= eip < noirq_end. */
	u32 noirq_start;
	u32 noirq_end;
	/* The address above which all page directories are alike. */
	u32 kernel_address;
	/* The vector of system calls. */
	u32 syscall_vec;
};

extern struct lguest_data lguest_data;

/* Has the host do what is queued, then this. */
static __always_inline void lguest_hcall(u32 number, u32 a, u32 b, u32 c, u32 d)
{
	asm volatile("int %[trap]"
		     : "+a" (number)
		     : [trap] "i" (LGUEST_TRAP_ENTRY),
		       "b" (a), "c" (b), "d" (c), "S" (d)
		     : "memory");
}

/* entry.S: from assembly only, for it keeps all registers. */
void lguest_send_interrupts(void);

/* hypercall.c */
void lguest_queue(u32 number, u32 a, u32 b, u32 c, u32 d);
void lguest_hcall_unless_batching(u32 number, u32 a, u32 b, u32 c, u32 d);
bool lguest_queued(void);
extern bool lguest_batching;

#endif /* __ASSEMBLY__ */
#endif /* _ASM_X86_LGUEST_H */
