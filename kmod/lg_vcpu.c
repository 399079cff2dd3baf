// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtual CPU as the host's kernel sees it: a task that runs it, an FPU state, a clock, pending interrupts,
 * and the entry into the guest. The world switch itself is the Switcher's (../switcher/src/text.rs); here is
 * what the kernel must be told before and after.
 */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/wait.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/special_insns.h>
#include <asm/trapnr.h>
#include <asm/tsc.h>

#include "lg_shim.h"

struct lg_vcpu {
	/* These two are for Rust as well (RawVcpu in src/shim.rs): a bit for each pending interrupt, */
	unsigned long pending;
	/* and CR2, after a page fault. */
	unsigned long cr2;

	wait_queue_head_t wait;
	struct hrtimer clock;
	/* Who may run it. Both are held, so that the comparison means something. */
	struct task_struct *task;
	struct mm_struct *mm;
	struct fpu_guest fpu;
};

/* ---------------------------------------------------------------- interrupts, clock, sleep */

asmlinkage void lg_vcpu_raise(struct lg_vcpu *vcpu, u32 irq)
{
	if (test_and_set_bit(irq, &vcpu->pending))
		return;
	/* Asleep, it wakes up; in the guest on another CPU, it comes out. */
	wake_up_interruptible(&vcpu->wait);
	preempt_disable();
	kick_process(vcpu->task);
	preempt_enable();
}

static enum hrtimer_restart clock_expired(struct hrtimer *clock)
{
	lg_vcpu_raise(container_of(clock, struct lg_vcpu, clock), 0);
	return HRTIMER_NORESTART;
}

asmlinkage void lg_vcpu_set_timer(struct lg_vcpu *vcpu, u32 nanoseconds)
{
	if (nanoseconds)
		hrtimer_start(&vcpu->clock, ns_to_ktime(nanoseconds), HRTIMER_MODE_REL);
	else
		hrtimer_cancel(&vcpu->clock);
}

asmlinkage void lg_vcpu_wait(struct lg_vcpu *vcpu, u32 mask)
{
	/* When a signal ends it, the caller sees that for itself. */
	(void)wait_event_interruptible(vcpu->wait, READ_ONCE(vcpu->pending) & mask);
}

#define LG_SIGNAL_FLAGS (_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL)

asmlinkage bool lg_vcpu_interrupted(void)
{
	if (likely(!(read_thread_flags() & (LG_SIGNAL_FLAGS | _TIF_NEED_RESCHED))))
		return false;
	cond_resched();
	return signal_pending(current);
}

asmlinkage void lg_wall_clock(u32 *seconds, u32 *nanoseconds)
{
	struct timespec64 now;

	ktime_get_real_ts64(&now);
	*seconds = now.tv_sec;
	*nanoseconds = now.tv_nsec;
}

asmlinkage u32 lg_tsc_khz(void)
{
	return boot_cpu_has(X86_FEATURE_CONSTANT_TSC) && !check_tsc_unstable() ? tsc_khz : 0;
}

asmlinkage struct eventfd_ctx *lg_eventfd_get(int fd)
{
	struct eventfd_ctx *eventfd = eventfd_ctx_fdget(fd);

	return IS_ERR(eventfd) ? NULL : eventfd;
}

asmlinkage void lg_eventfd_put(struct eventfd_ctx *eventfd)
{
	eventfd_ctx_put(eventfd);
}

asmlinkage void lg_eventfd_signal(struct eventfd_ctx *eventfd)
{
	eventfd_signal(eventfd, 1);
}

/* ---------------------------------------------------------------- life */

asmlinkage struct lg_vcpu *lg_vcpu_create(void)
{
	struct lg_vcpu *vcpu = lg_should_fail() ? NULL : kzalloc(sizeof(*vcpu), GFP_KERNEL_ACCOUNT);

	if (!vcpu)
		return NULL;
	if (lg_should_fail() || !fpu_alloc_guest_fpstate(&vcpu->fpu)) {
		kfree(vcpu);
		return NULL;
	}
	atomic_inc(&lg_memory);
	init_waitqueue_head(&vcpu->wait);
	hrtimer_init(&vcpu->clock, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	vcpu->clock.function = clock_expired;
	vcpu->task = get_task_struct(current);
	/* The structure, not the memory: pages that the guest uses are pinned one by one. */
	vcpu->mm = current->mm;
	mmgrab(vcpu->mm);
	return vcpu;
}

asmlinkage void lg_vcpu_destroy(struct lg_vcpu *vcpu)
{
	hrtimer_cancel(&vcpu->clock);
	fpu_free_guest_fpstate(&vcpu->fpu);
	mmdrop(vcpu->mm);
	put_task_struct(vcpu->task);
	kfree(vcpu);
	atomic_dec(&lg_memory);
}

asmlinkage bool lg_vcpu_is_mine(const struct lg_vcpu *vcpu)
{
	return vcpu->task == current && vcpu->mm == current->mm;
}

asmlinkage void lg_vcpu_load(struct lg_vcpu *vcpu)
{
	fpu_swap_kvm_fpstate(&vcpu->fpu, true);
}

asmlinkage void lg_vcpu_put(struct lg_vcpu *vcpu)
{
	fpu_swap_kvm_fpstate(&vcpu->fpu, false);
}

/* ---------------------------------------------------------------- into the guest */

/* What `lcall` takes. */
static struct {
	u32 offset;
	u16 selector;
} __packed switcher_entry;

asmlinkage void lg_vcpu_set_entry(u32 selector, u32 address)
{
	switcher_entry.offset = address;
	switcher_entry.selector = selector;
}

/*
 * Gives an interrupt that ended the guest's run to the host, which never saw it: calls the handler as the
 * processor would have, with interrupts off.
 */
static void replay(u8 vector)
{
	struct desc_ptr idt;
	unsigned long handler;

	store_idt(&idt);
	handler = gate_offset((gate_desc *)idt.address + vector);
	asm volatile("pushf\n\t"
		     "push %%cs\n\t"
		     CALL_NOSPEC
		     : ASM_CALL_CONSTRAINT
		     : [thunk_target] "a" (handler)
		     : "memory", "cc");
}

/* The system call's vector is the only one above the exceptions that no hardware uses. */
static bool is_hosts(u8 vector)
{
	if (vector >= FIRST_EXTERNAL_VECTOR)
		return vector != IA32_SYSCALL_VECTOR;
	return BIT(vector) & (BIT(X86_TRAP_NMI) | BIT(X86_TRAP_MC));
}

static void set_ts(void)
{
	asm volatile("mov %0, %%cr0" : : "r" (read_cr0() | X86_CR0_TS) : "memory");
}

asmlinkage u32 lg_vcpu_enter(struct lg_vcpu *vcpu, void *state, u32 seen, u32 ts)
{
	unsigned long flags, debug, nmi, entry = (unsigned long)state;
	u32 vector;

	/*
	 * The replayed interrupt's own end does not reschedule, since interrupts were off before it:
	 * preempt_enable() does.
	 */
	preempt_disable();
	local_irq_disable();

	/*
	 * From here on the guest is left at once by whatever arrives. What arrived before, since the caller
	 * looked, would go unnoticed until the next interrupt.
	 */
	flags = read_thread_flags();
	if (unlikely(flags & (LG_SIGNAL_FLAGS | _TIF_NEED_RESCHED)) || unlikely(READ_ONCE(vcpu->pending) != seen)) {
		vector = FIRST_EXTERNAL_VECTOR;
		goto out;
	}
	/* Being scheduled away may have left the guest's FPU state in memory. */
	if (unlikely(flags & _TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	/* The host's breakpoints are not for the guest's addresses. */
	debug = local_db_save();
	/* SYSENTER would take the guest into the host's ring 0. */
	if (static_cpu_has(X86_FEATURE_SEP))
		__wrmsr(MSR_IA32_SYSENTER_CS, 0, 0);
	if (unlikely(ts))
		set_ts();

	/* The frame is that of an interrupt; the Switcher comes back by iret. */
	asm volatile("pushf\n\t"
		     "lcall *%[target]"
		     : "+a" (entry), "=d" (nmi)
		     : [target] "m" (switcher_entry)
		     : "ebx", "ecx", "esi", "edi", "memory", "cc");
	vector = entry;

	if (unlikely(ts))
		asm volatile("clts");
	/* Interrupts may fault, so before any is let in. */
	if (vector == X86_TRAP_PF)
		vcpu->cr2 = native_read_cr2();
	if (static_cpu_has(X86_FEATURE_SEP))
		__wrmsr(MSR_IA32_SYSENTER_CS, current->thread.sysenter_cs, 0);
	local_db_restore(debug);

	if (unlikely(nmi))
		replay(X86_TRAP_NMI);
	if (is_hosts(vector))
		replay(vector);
out:
	local_irq_enable();
	preempt_enable();
	return vector;
}
