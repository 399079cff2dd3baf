/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that this module is made for: 5.10, 6.1, 6.12 and 7.3. The names are those of Debian 12's kernel,
 * 6.1, with what they mean there, or begin with lg_. No other file looks at the kernel's version.
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
#include <linux/gfp.h>
#include <linux/hrtimer.h>
#include <linux/kvm_types.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/thread_info.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/special_insns.h>
#include <asm/tlbflush.h>

/*
 * Where Linux exports some functions to KVM's own modules alone (it has a macro for that), this module does without: what they
 * would do is done here by instructions, and by what is exported to all.
 */
#ifdef EXPORT_SYMBOL_FOR_KVM
#define LG_EXPORTED_TO_KVM_ALONE
#endif

/* ---------------------------------------------------------------- flags, events, clocks, files */

/* Of the kernels with two degrees of "another task is to run": the lesser, at which a process in user mode is rescheduled too. */
#ifndef _TIF_NEED_RESCHED_LAZY
#define _TIF_NEED_RESCHED_LAZY 0
#endif

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

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *), clockid_t clock,
				 enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

/* What the memory notifier's questions for a page's age return: an int, or a bool. */
typedef typeof(((struct mmu_notifier_ops *)NULL)->test_young(NULL, NULL, 0)) lg_young;

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
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define LG_MAP_PAGES "vmap_pages_range_noflush"
typedef int lg_map_pages_fn(unsigned long start, unsigned long end, pgprot_t prot, struct page **pages,
			    unsigned int page_shift, gfp_t gfp);

static inline int lg_map_pages(lg_map_pages_fn *map, unsigned long start, unsigned long end, pgprot_t prot,
			       struct page **pages)
{
	return map(start, end, prot, pages, PAGE_SHIFT, GFP_KERNEL);
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
#elif defined(LG_EXPORTED_TO_KVM_ALONE)
#include <asm/fpu/types.h>
#include <asm/fpu/xcr.h>

/*
 * While a guest runs, its state is in the place of its task's, and the task's in the guest's. The kernel saves and restores it
 * there as it would the task's. kernel_fpu_begin_mask() is how a state gets there from the registers: afterwards it is in memory,
 * TIF_NEED_FPU_LOAD says so, and the processor has no record of whose state is in its registers.
 */
struct lg_fpu {
	/* The state that is not in its task's place, as the processor saves it, and its size in bytes. */
	u32 *other;
	u32 size;
};

/* What x86_task_fpu() is of the current task, which is a function that is not exported where CONFIG_X86_DEBUG_FPU is on. */
static __always_inline struct fpu *lg_task_fpu(void)
{
	return (void *)current + sizeof(*current);
}

static inline void lg_fpu_free(struct lg_fpu *fpu)
{
	kfree(fpu->other);
}

static inline bool lg_fpu_alloc(struct lg_fpu *fpu)
{
	const struct fpstate *task = lg_task_fpu()->fpstate;
	union fpregs_state *guest;

	fpu->size = task->size;
	fpu->other = kzalloc(fpu->size, GFP_KERNEL_ACCOUNT);
	if (!fpu->other)
		return false;
	/* As it is after FNINIT, and as a task's begins. All that is 0 in the header of XSAVE is in its first state. */
	guest = (union fpregs_state *)fpu->other;
	if (cpu_feature_enabled(X86_FEATURE_XCOMPACTED))
		guest->xsave.header.xcomp_bv = task->xfeatures | XCOMP_BV_COMPACTED_FORMAT;
	if (cpu_feature_enabled(X86_FEATURE_FXSR)) {
		guest->fxsave.cwd = 0x37f;
		guest->fxsave.mxcsr = MXCSR_DEFAULT;
	} else {
		guest->fsave.cwd = 0xffff037f;
		guest->fsave.swd = 0xffff0000;
		guest->fsave.twd = 0xffffffff;
		guest->fsave.fos = 0xffff0000;
	}
	return true;
}

static inline void lg_fpu_swap(struct lg_fpu *fpu)
{
	struct fpu *task = lg_task_fpu();
	u32 *registers = (u32 *)&task->fpstate->regs;
	u32 i;

	kernel_fpu_begin_mask(0);
	for (i = 0; i < fpu->size / sizeof(u32); i++)
		swap(registers[i], fpu->other[i]);
	/* No processor has it in its registers. */
	task->last_cpu = -1;
	kernel_fpu_end();
}

static inline void lg_fpu_enter(struct lg_fpu *fpu)
{
	lg_fpu_swap(fpu);
}

static inline void lg_fpu_leave(struct lg_fpu *fpu)
{
	lg_fpu_swap(fpu);
}

/*
 * Loads the state in the task's place, a guest's, into the registers. With interrupts off. A guest's state is as the
 * processor has saved it or as lg_fpu_alloc() has made it, so that loading it does not fault.
 *
 * To the kernel the registers are the task's from here on, so that it saves them when it switches tasks or uses the FPU. But no
 * processor is on record as having them (`last_cpu`), so that it never takes those of before for these.
 */
static inline void lg_fpu_reload(void)
{
	struct fpu *task = lg_task_fpu();
	union fpregs_state *state = &task->fpstate->regs;
	u64 features = task->fpstate->xfeatures;

	kernel_fpu_begin_mask(0);
	/* Some of AMD's would leave pointers of the last x87 instruction, whoever's it was. */
	if (static_cpu_has_bug(X86_BUG_FXSAVE_LEAK))
		asm volatile("fnclex\n\temms\n\tfildl %0" : : "m" (task->last_cpu));
	if (cpu_feature_enabled(X86_FEATURE_XSAVES))
		asm volatile("xrstors %0" : : "m" (*state), "a" ((u32)features), "d" ((u32)(features >> 32)) : "memory");
	else if (cpu_feature_enabled(X86_FEATURE_XSAVE))
		asm volatile("xrstor %0" : : "m" (*state), "a" ((u32)features), "d" ((u32)(features >> 32)) : "memory");
	else if (cpu_feature_enabled(X86_FEATURE_FXSR))
		asm volatile("fxrstor %0" : : "m" (state->fxsave) : "memory");
	else
		asm volatile("frstor %0" : : "m" (state->fsave) : "memory");
	task->last_cpu = -1;
	clear_thread_flag(TIF_NEED_FPU_LOAD);
	kernel_fpu_end();
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

#ifndef LG_EXPORTED_TO_KVM_ALONE
/* Loads the state in the task's place into the registers, with interrupts off. */
static inline void lg_fpu_reload(void)
{
	switch_fpu_return();
}
#endif

/* ---------------------------------------------------------------- global pages */

/*
 * Turning global pages off (which returns whether they were on), and on again, on this processor; with interrupts off.
 *
 * Where the functions that know the kernel's own copy of CR4 are not exported, that copy keeps the bit, and each change that the
 * kernel makes to CR4 (it flushes the whole TLB by two) turns global pages on again. So lg_global_pages_still_off() turns them off
 * once more before an entry. Each of these changes is of the bit, by which the processor flushes its whole TLB.
 */
#ifdef LG_EXPORTED_TO_KVM_ALONE
static __always_inline void lg_write_cr4(unsigned long value)
{
	asm volatile("mov %0, %%cr4" : : "r" (value) : "memory");
}

static __always_inline bool lg_global_pages_off(void)
{
	unsigned long cr4 = native_read_cr4();

	if (likely(!(cr4 & X86_CR4_PGE)))
		return false;
	lg_write_cr4(cr4 & ~X86_CR4_PGE);
	return true;
}

static inline void lg_global_pages_on(void)
{
	lg_write_cr4(native_read_cr4() | X86_CR4_PGE);
}

static __always_inline void lg_global_pages_still_off(void)
{
	lg_global_pages_off();
}
#else
static inline bool lg_global_pages_off(void)
{
	bool on = cr4_read_shadow() & X86_CR4_PGE;

	cr4_update_irqsoff(0, X86_CR4_PGE);
	return on;
}

static inline void lg_global_pages_on(void)
{
	cr4_update_irqsoff(X86_CR4_PGE, 0);
}

static __always_inline void lg_global_pages_still_off(void)
{
}
#endif

/* ---------------------------------------------------------------- faults of a host that is a guest of KVM */

/*
 * Whether a page fault was KVM's word that a page of the host's is on its way, and waiting for that page. Where the functions for it
 * are not exported, the module does not load under a KVM that says so (lg_main.c). Whoever waits is woken up by the kernel, through
 * a list that these functions keep.
 */
#ifdef LG_EXPORTED_TO_KVM_ALONE
#define LG_WAITS_FOR_PAGES_OF_HOST false

static __always_inline bool lg_page_of_host_on_its_way(void)
{
	return false;
}

static inline void lg_wait_for_page_of_host(u32 token)
{
}
#else
#define LG_WAITS_FOR_PAGES_OF_HOST true

static __always_inline bool lg_page_of_host_on_its_way(void)
{
	return kvm_read_and_reset_apf_flags() & KVM_PV_REASON_PAGE_NOT_PRESENT;
}

/* With interrupts off. */
static inline void lg_wait_for_page_of_host(u32 token)
{
	kvm_async_pf_task_wait_schedule(token);
}
#endif

/* ---------------------------------------------------------------- speculation */

/* What one guest has taught the processor about indirect branches and returns goes, before another runs. */
#ifdef LG_EXPORTED_TO_KVM_ALONE
/* Returns are a matter of their own on processors whose barrier leaves them (lg_barriers.S). */
asmlinkage void lg_fill_return_stack_after_barrier(void);

static inline void lg_separate_predictions(void)
{
	if (!cpu_feature_enabled(X86_FEATURE_IBPB))
		return;
	/* On some of AMD's processors the kernel's barrier is a cheaper one, SBPB; only the kernel knows where. This one does more. */
	native_wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB, 0);
	lg_fill_return_stack_after_barrier();
}
#else
static inline void lg_separate_predictions(void)
{
	indirect_branch_prediction_barrier();
}
#endif

/* Whether VERW is to clear the processor's buffers before a guest runs, by the kernel's own switches. */
static __always_inline bool lg_must_clear_buffers(void)
{
#ifdef X86_FEATURE_CLEAR_CPU_BUF_VM
	return cpu_feature_enabled(X86_FEATURE_CLEAR_CPU_BUF_VM);
#else
	/* Before it was a feature for guests alone: as for processes; or where only guests that have devices could read the buffers. */
	return cpu_feature_enabled(X86_FEATURE_CLEAR_CPU_BUF) || static_branch_unlikely(&mmio_stale_data_clear);
#endif
}

#endif
