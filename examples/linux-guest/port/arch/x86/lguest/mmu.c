// SPDX-License-Identifier: GPL-2.0
/*
 * Page tables: which ones are in use, and what changed in them.
 *
 * The host walks this kernel's page tables when an access faults, sets their
 * accessed and dirty bits, and keeps what it found in tables of its own until
 * a flush drops it. That makes it a large TLB whose misses are handled in
 * software, so that Linux has to send the host what it would have to send a
 * processor: the page directory and the flushes, and no entry that it writes.
 *
 * Unlike a processor's TLB this one is kept for each page directory. Loading
 * another therefore flushes nothing, and need not: Linux counts the flushes of
 * each address space (context.tlb_gen). Where the count is still what it was
 * at our last flush, what the host kept is still good.
 */
#include <linux/entry-common.h>
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include <asm/lguest.h>
#include <asm/paravirt.h>
#include <asm/pgtable.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include <asm/switch_to.h>
#include <asm/tlbflush.h>

#include "port.h"

/* What Linux wrote to the control registers. */
unsigned long lguest_cr0 = CR0_STATE;
EXPORT_SYMBOL_GPL(lguest_cr0);
unsigned long lguest_cr3;
EXPORT_SYMBOL_GPL(lguest_cr3);
unsigned long lguest_cr4;
EXPORT_SYMBOL_GPL(lguest_cr4);

/*
 * The state that an address space was in when the host held nothing stale of
 * it, found by its page directory. One that was overwritten by another costs a
 * flush too many.
 */
struct flushed {
	unsigned long cr3;
	u64 ctx_id;
	u64 tlb_gen;
} __aligned(32); /* One is found by a shift. */

#define FLUSHED_BITS	10
static struct flushed flushed[1 << FLUSHED_BITS];

/* Page directories are at least 32 bytes apart. */
static struct flushed *flushed_of(unsigned long cr3)
{
	return &flushed[hash_32(cr3 >> 5, FLUSHED_BITS)];
}

/* That of the page directory that is loaded, once Linux has loaded one. */
static struct flushed *flushed_current = flushed;

/* Instead of a ctx_id: the host holds nothing of the page directory's user half. Linux begins with 1. */
#define NOTHING_HELD	0

/*
 * Page directories of address spaces that have ended, and zeros. The host holds
 * what their programs used, and whoever gets one of them next needs a flush
 * before it runs. A fork takes one for the child and flushes the parent; so they
 * go along with the next flush of an address space.
 */
#define MOST_ENDED	4
static unsigned long ended[MOST_ENDED];
static unsigned int ended_count;

/*
 * The page of the page fault that Linux has begun to handle since it last left
 * for user mode, and the page whose flush waits; 0 for none.
 *
 * A page that is copied on write is flushed before its new entry is written.
 * The host would be sent an empty entry, and the write that is repeated would
 * fault for the new one. So the flush of the very page that has faulted waits
 * until Linux goes back to user mode, and then sends what is in the tables.
 * Until then only Linux itself can use the old page: to read it, which has what
 * the new one has as long as no program runs, or to write, which faults, for
 * the old entry allows no write.
 */
unsigned long lguest_fault;
unsigned long lguest_late_flush;

/* What the host may use for a page, as it is now. */
static u64 entry_of(unsigned long address)
{
	pgd_t *pgd = pgd_offset_pgd((pgd_t *)__va(lguest_cr3), address);
	pud_t *pud = pud_offset(p4d_offset(pgd, address), address);
	pmd_t *pmd;
	u64 entry;

	/* With two levels, all of these are the page directory's entry. */
	if (pud_none(*pud))
		return 0;
	pmd = pmd_offset(pud, address);
	if (!pmd_present(*pmd) || pmd_leaf(*pmd))
		return 0;
	entry = pte_val(*pte_offset_kernel(pmd, address));
	/* The host uses the entry as sent: it would see no write to this. */
	if (!(entry & _PAGE_DIRTY))
		entry &= ~(u64)_PAGE_RW;
	return entry;
}

/* Whether the flush of this page can wait. */
static bool waits(unsigned long address)
{
	if (!lguest_late_flush && address && address == lguest_fault)
		lguest_late_flush = address;
	return address && lguest_late_flush == address;
}

/* Sends the host a page's entry as it is now, at once or with the next call. */
static void send_entry(unsigned long address, bool queued)
{
	u64 entry = entry_of(address);

	if (queued)
		lguest_queue(LHCALL_SET_PTE, lguest_cr3, address, entry, entry >> 32);
	else
		lguest_hcall(LHCALL_SET_PTE, lguest_cr3, address, entry, entry >> 32);
}

static void send_late_flush(bool queued)
{
	unsigned long address = lguest_late_flush;

	lguest_late_flush = 0;
	send_entry(address, queued);
}

void lguest_flush_late(void)
{
	send_late_flush(false);
}

/* The stack that the host was sent last; 0 before the first. */
static unsigned long told_stack;

/*
 * The page directory of a context switch, lguest_cr3, goes to the host together
 * with the stack that ends the switch, and a flush of what the host may hold of
 * it that is stale. Interrupts are off until then, and nothing else is flushed.
 */
static enum { NO_LOAD, LOAD, LOAD_AND_FLUSH } waiting_load;

static __always_inline void load_with_stack(unsigned long stack)
{
	bool flush = waiting_load == LOAD_AND_FLUSH;

	waiting_load = NO_LOAD;
	told_stack = stack;
	lguest_hcall(LHCALL_SWITCH_TO, lguest_cr3, stack,
		     THREAD_SIZE / PAGE_SIZE, flush);
}

/*
 * Not inline, or its callers would save the registers of a hypercall. The host
 * has no stack yet when Linux loads its first page directories.
 */
static noinline noinstr void load_now(void)
{
	if (told_stack) {
		load_with_stack(this_cpu_read(cpu_tss_rw.x86_tss.sp1));
		return;
	}
	lguest_hcall(LHCALL_NEW_PGTABLE, lguest_cr3, 0, 0, 0);
	if (waiting_load == LOAD_AND_FLUSH)
		lguest_hcall(LHCALL_FLUSH_TLB, 0, 0, 0, 0);
	waiting_load = NO_LOAD;
}

/*
 * An address space is loaded for the first time, or has changed since it was
 * loaded last. Returns whether the host may hold something of it that is stale.
 */
static noinline bool note_load(struct flushed *known, unsigned long cr3,
			       const struct tlb_context *slot)
{
	bool held = known->cr3 != cr3 || known->ctx_id != NOTHING_HELD;
	unsigned int i;

	*known = (struct flushed){
		.cr3 = cr3,
		.ctx_id = slot->ctx_id,
		.tlb_gen = slot->tlb_gen,
	};
	/* It is in use now, if it was not before. */
	for (i = ended_count; i--; ) {
		if (ended[i] != cr3)
			continue;
		ended[i] = ended[--ended_count];
		ended[ended_count] = 0;
	}
	return held;
}

/*
 * Linux runs without PCID here, hence in its address-space slot 0 only, and has
 * filled that slot in before it writes cr3.
 */
void lguest_write_cr3(unsigned long cr3)
{
	struct flushed *known = flushed_of(cr3);
	/* Not by this_cpu_read(), which turns interrupts off for 64 bits. */
	const struct tlb_context *slot = &raw_cpu_ptr(&cpu_tlbstate)->ctxs[0];

	/* What waits is about the page directory that goes. */
	if (unlikely(lguest_late_flush))
		send_late_flush(true);
	lguest_cr3 = cr3;
	flushed_current = known;
	waiting_load = LOAD;
	if (unlikely(known->cr3 != cr3 || known->ctx_id != slot->ctx_id ||
		     known->tlb_gen != slot->tlb_gen)) {
		if (note_load(known, cr3, slot))
			waiting_load = LOAD_AND_FLUSH;
	}
	if (!lguest_batching)
		load_now();
}

/* The host has dropped what had changed in the current address space. */
static void note_flushed(void)
{
	struct mm_struct *mm = this_cpu_read(cpu_tlbstate.loaded_mm);
	struct flushed *known = flushed_current;

	if (mm == LOADED_MM_SWITCHING)
		return;
	known->cr3 = lguest_cr3;
	known->ctx_id = mm->context.ctx_id;
	/* Nobody counts meanwhile: interrupts are off, and there is one processor. */
	known->tlb_gen = mm->context.tlb_gen.counter;
}

/*
 * Whether nothing runs in the current address space any more: its last user
 * has gone, and exit_mmap() takes it down. Whoever gets the page directory
 * next has another ctx_id, for which the host drops what this one leaves.
 */
static bool is_dying(void)
{
	struct mm_struct *mm = this_cpu_read(cpu_tlbstate.loaded_mm);

	return mm != LOADED_MM_SWITCHING && !atomic_read(&mm->mm_users);
}

static void flush_tlb_user(void)
{
	lguest_late_flush = 0;
	if (is_dying())
		return;
	lguest_hcall(LHCALL_FLUSH_USER_OF, ended[0], ended[1], ended[2], ended[3]);
	while (ended_count) {
		unsigned long cr3 = ended[--ended_count];
		struct flushed *known = flushed_of(cr3);

		ended[ended_count] = 0;
		known->cr3 = cr3;
		known->ctx_id = NOTHING_HELD;
	}
	note_flushed();
}

/*
 * The last user of an address space has gone. It may be loaded still, or again,
 * but only for Linux itself, which uses nothing of the user half any more.
 */
static void note_end(struct mm_struct *mm)
{
	unsigned long flags;

	raw_local_irq_save(flags);
	if (ended_count == MOST_ENDED)
		ended_count--;
	ended[ended_count++] = __pa(mm->pgd);
	raw_local_irq_restore(flags);
}

static void flush_tlb_kernel(void)
{
	lguest_late_flush = 0;
	lguest_hcall(LHCALL_FLUSH_TLB, 1, 0, 0, 0);
}

/*
 * One page, of user or kernel. The host takes a new entry in exchange for the
 * old one, which saves the fault that would fetch it.
 */
static void flush_tlb_one(unsigned long address)
{
	address &= PAGE_MASK;
	if (!waits(address))
		send_entry(address, false);
	if (address < TASK_SIZE)
		note_flushed();
}

/* Not inline, or each fault would save the registers of a hypercall. */
static noinline noinstr void do_what_waits(void)
{
	if (waiting_load)
		load_now();
	else
		lguest_hcall(LHCALL_FLUSH_ASYNC, 0, 0, 0, 0);
}

/*
 * A fault between the two ends of a context switch may be about the page
 * directory that waits to be loaded.
 */
noinstr unsigned long lguest_read_cr2(void)
{
	unsigned long address = READ_ONCE(lguest_data.cr2);

	lguest_fault = address & PAGE_MASK;
	if (unlikely(lguest_batching))
		do_what_waits();
	return address;
}

/*
 * A kernel thread traps on the stack it is on, and needs none. Going back from
 * one to the task that ran before, there is often nothing to send the host.
 */
void lguest_update_task_stack(struct task_struct *task)
{
	unsigned long stack = task->thread.sp0;

	/* Linux's entry code moves between this one and the entry stack. */
	this_cpu_write(cpu_tss_rw.x86_tss.sp1, stack);
	lguest_batching = false;
	if (waiting_load) {
		load_with_stack(stack);
	} else if (!(task->flags & PF_KTHREAD) && stack != told_stack) {
		told_stack = stack;
		lguest_hcall(LHCALL_SET_STACK, __KERNEL_DS, stack,
			     THREAD_SIZE / PAGE_SIZE, 0);
	} else if (lguest_queued()) {
		lguest_hcall(LHCALL_FLUSH_ASYNC, 0, 0, 0, 0);
	}
}

void __init lguest_init_mmu(void)
{
	/* As head.S has sent it to the host. */
	lguest_cr3 = __pa_symbol(initial_page_table);
	pv_ops.mmu.flush_tlb_user = flush_tlb_user;
	pv_ops.mmu.flush_tlb_kernel = flush_tlb_kernel;
	pv_ops.mmu.flush_tlb_one_user = flush_tlb_one;
	pv_ops.mmu.exit_mmap = note_end;
	/* The top of the address space is the host's; the fixmap goes below. */
	reserve_top_address(lguest_data.reserve_mem);
}
