/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that this module is made for: 5.10, 6.1 and 6.12. The names are those of Debian 12's kernel, 6.1,
 * with what they mean there, or begin with lg_. No other file looks at the kernel's version.
 *
 * Stable kernels get features of later ones. So what can be looked for itself is, and a version stands only for what cannot.
 *
 * PREEMPT_RT (Debian's rt-686-pae) needs nothing of its own, but relies on what holds of every lock and of every stretch with
 * interrupts off here. A spinlock_t sleeps there: each is taken by a task with interrupts and preemption on, or in a callback
 * of the memory notifier, whose caller has a page-table lock at the most, which sleeps there as well. The clock of a
 * virtual CPU expires in a thread there, which may wake others up. Nothing between the local_irq_disable() of lg_vcpu_enter(), or
 * the local_irq_save() of lg_cpu.c, and its end takes a lock or allocates; the handlers of the host's interrupts that are called
 * there are those that the kernel's own entry calls with interrupts off.
 */
#ifndef LG_COMPAT_H
#define LG_COMPAT_H

#include <linux/compiler.h>
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/thread_info.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/nospec-branch.h>

/* ---------------------------------------------------------------- flags, events, files */

#ifndef read_thread_flags
static __always_inline unsigned long read_thread_flags(void)
{
	return READ_ONCE(current_thread_info()->flags);
}
#endif

static inline void lg_eventfd_count(struct eventfd_ctx *eventfd)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(eventfd, 1);
#else
	eventfd_signal(eventfd);
#endif
}

/* From 6.12 on, no llseek() is what files without one do. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define no_llseek NULL
#endif

/* ---------------------------------------------------------------- below vmap() */

/* The function below vmap() that maps pages in a range, by its name and its type, and a call of it: 0 when they are mapped. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 13, 0)
#define LG_MAP_PAGES "map_kernel_range_noflush"
typedef int lg_map_pages_fn(unsigned long start, unsigned long size, pgprot_t prot, struct page **pages);

static inline int lg_map_pages(lg_map_pages_fn *map, unsigned long start, unsigned long end, pgprot_t prot,
			       struct page **pages)
{
	return map(start, end - start, prot, pages);
}
#else
#define LG_MAP_PAGES "vmap_pages_range_noflush"
typedef int lg_map_pages_fn(unsigned long start, unsigned long end, pgprot_t prot, struct page **pages,
			    unsigned int page_shift);

static inline int lg_map_pages(lg_map_pages_fn *map, unsigned long start, unsigned long end, pgprot_t prot,
			       struct page **pages)
{
	return map(start, end, prot, pages, PAGE_SHIFT);
}
#endif

/* ---------------------------------------------------------------- the FPU */

/*
 * A guest's FPU state, and its task's meanwhile. Where the task is scheduled away with the guest's, the kernel keeps it as the
 * task's own.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
#include <asm/fpu/internal.h>

struct lg_fpu {
	struct fpu *guest, *task;
};

static inline void lg_fpu_free(struct lg_fpu *fpu)
{
	kfree(fpu->guest);
	kfree(fpu->task);
}

static inline bool lg_fpu_alloc(struct lg_fpu *fpu)
{
	/* XSAVE requires 64 bytes' alignment, which kmalloc() gives to powers of two; the size is the processor's. */
	size_t size = roundup_pow_of_two(offsetof(struct fpu, state) + fpu_kernel_xstate_size);

	fpu->guest = kzalloc(size, GFP_KERNEL_ACCOUNT);
	fpu->task = kzalloc(size, GFP_KERNEL_ACCOUNT);
	if (!fpu->guest || !fpu->task) {
		lg_fpu_free(fpu);
		return false;
	}
	fpstate_init(&fpu->guest->state);
	return true;
}

/* Puts the current state, wherever it is, into `from`, and makes that in `to` the current one. */
static inline void lg_fpu_swap(struct fpu *from, struct fpu *to)
{
	fpregs_lock();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		memcpy(&from->state, &current->thread.fpu.state, fpu_kernel_xstate_size);
	else
		/* Where this leaves the registers without a state, they get one below. */
		copy_fpregs_to_fpstate(from);
	copy_kernel_to_fpregs(&to->state);
	fpregs_mark_activate();
	fpregs_unlock();
}

static inline void lg_fpu_enter(struct lg_fpu *fpu)
{
	lg_fpu_swap(fpu->task, fpu->guest);
}

static inline void lg_fpu_leave(struct lg_fpu *fpu)
{
	lg_fpu_swap(fpu->guest, fpu->task);
}
#else
#include <asm/fpu/types.h>

struct lg_fpu {
	struct fpu_guest guest;
};

static inline bool lg_fpu_alloc(struct lg_fpu *fpu)
{
	return fpu_alloc_guest_fpstate(&fpu->guest);
}

static inline void lg_fpu_free(struct lg_fpu *fpu)
{
	fpu_free_guest_fpstate(&fpu->guest);
}

static inline void lg_fpu_enter(struct lg_fpu *fpu)
{
	fpu_swap_kvm_fpstate(&fpu->guest, true);
}

static inline void lg_fpu_leave(struct lg_fpu *fpu)
{
	fpu_swap_kvm_fpstate(&fpu->guest, false);
}
#endif

/* ---------------------------------------------------------------- speculation */

/* Whether VERW is to clear the processor's buffers before a guest runs, by the kernel's own switches. */
static __always_inline bool lg_must_clear_buffers(void)
{
#ifdef X86_FEATURE_CLEAR_CPU_BUF_VM
	return static_cpu_has(X86_FEATURE_CLEAR_CPU_BUF_VM);
#else
	/* Before it was a feature for guests alone: as for processes; or where only guests that have devices could read the buffers. */
	return static_cpu_has(X86_FEATURE_CLEAR_CPU_BUF) || static_branch_unlikely(&mmio_stale_data_clear);
#endif
}

#endif
