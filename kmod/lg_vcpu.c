// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtual CPU as the host's kernel sees it: a task that runs it, an FPU state, a clock, pending interrupts,
 * and the entry into the guest. The world switch itself is the Switcher's (../switcher/src/text.rs); here is
 * what the kernel must receive before and after.
 */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/build_bug.h>
#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
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
#include <asm/irq_vectors.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/special_insns.h>
#include <asm/trapnr.h>
#include <asm/tsc.h>

#include "lg_compat.h"
#include "lg_frames.h"
#include "lg_shim.h"

struct lg_vcpu {
	/* These are for Rust as well: a bit for each pending interrupt, */
	unsigned long pending;
	/* and, after a page fault, CR2, and what the Switcher missed when it looked at that or at a hypercall; and of this the first word. */
	unsigned long cr2, missed;
	struct lg_frames frames;

	wait_queue_head_t wait;
	/* Those who want to look at the guest while it stands still, or are looking; and how many have looked. */
	atomic_t visitors, visits;
	/* Visitors have been let in, and the guest has not run since; for the task that runs it. */
	bool visited;
	struct hrtimer clock;
	/* Distinguishes it from every other, also from those that have gone: see `last_vcpu`. */
	u32 number;
	/* Who may run it. Both are held, so that the comparison means something. */
	struct task_struct *task;
	struct mm_struct *mm;
	struct lg_fpu fpu;
	/* What put_away() has put away while the guest runs. */
	struct {
		unsigned long breakpoints;
		bool block_step;
		u16 ldt;
	} away;
};

/* Rust's RawVcpu. */
static_assert(offsetof(struct lg_vcpu, pending) == LG_VCPU_PENDING);
static_assert(offsetof(struct lg_vcpu, cr2) == LG_VCPU_CR2);
static_assert(offsetof(struct lg_vcpu, missed) == LG_VCPU_MISSED);
static_assert(offsetof(struct lg_vcpu, frames.words) == LG_VCPU_FRAMES);
static_assert(sizeof_field(struct lg_vcpu, pending) == sizeof(u32) && sizeof_field(struct lg_vcpu, cr2) == sizeof(u32) &&
	      sizeof_field(struct lg_vcpu, missed) == sizeof(u32));

/* What the Switcher and Rust take for the host's, as the kernel has it. */
static_assert(LG_TRAP_DB == X86_TRAP_DB);
static_assert(LG_TRAP_NMI == X86_TRAP_NMI);
static_assert(LG_TRAP_PF == X86_TRAP_PF);
static_assert(LG_TRAP_MC == X86_TRAP_MC);
static_assert(LG_FIRST_EXTERNAL == FIRST_EXTERNAL_VECTOR);
static_assert(LG_SYSCALL == IA32_SYSCALL_VECTOR);

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

/* In an interrupt; under PREEMPT_RT in a thread, as the waking below takes a lock that sleeps there. */
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
	/* When a signal or a visitor ends it, the caller sees that for itself. */
	(void)wait_event_interruptible(vcpu->wait,
				       READ_ONCE(vcpu->pending) & mask || atomic_read(&vcpu->visitors));
}

#define LG_SIGNAL_FLAGS (_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL)
/* A guest is rescheduled where a process in user mode is, so at the lazy one too, which preempt_enable() and cond_resched() ignore. */
#define LG_RESCHEDULE_FLAGS (_TIF_NEED_RESCHED | _TIF_NEED_RESCHED_LAZY)

/*
 * Lets others run if they wait to; returns whether there is a signal as well.
 *
 * A process that spins in user space is quiescent for RCU-tasks at each tick. A guest's process is in the kernel
 * at each tick, and cond_resched() is no quiescent state. So it is reported, or whoever waits for RCU-tasks (for the
 * removal of an ftrace tracer, say) waits for as long as a guest spins.
 */
static bool give_way(void)
{
	unsigned long flags = read_thread_flags();

	rcu_tasks_qs(current, false);
	if (likely(!(flags & (LG_SIGNAL_FLAGS | LG_RESCHEDULE_FLAGS))))
		return false;
	if (flags & LG_RESCHEDULE_FLAGS)
		schedule();
	return signal_pending(current);
}

/*
 * Work that the task has to do on its way back to user mode (limits of processor time, memcg's throttling, rseq) must not wait until
 * its guest has something for the launcher. A signal that proves to be none takes the task there, and the read is restarted: as the
 * freezer does it.
 */
asmlinkage bool lg_vcpu_interrupted(struct lg_vcpu *vcpu)
{
	bool visited = vcpu->visited;

	if (unlikely(read_thread_flags() & _TIF_NOTIFY_RESUME))
		set_thread_flag(TIF_SIGPENDING);
	vcpu->visited = false;
	return give_way() || (!visited && atomic_read(&vcpu->visitors));
}

asmlinkage bool lg_vcpu_reschedule_point(void)
{
	return give_way() && fatal_signal_pending(current);
}

/* ---------------------------------------------------------------- visitors */

/*
 * A visitor is another task that wants to look at the guest (lg_views.c). It announces itself, and waits for the guest's
 * session (a mutex of src/device.rs), which who runs the guest has for as long as the guest runs. That task gives it up at the next
 * point at which it would for a signal, and does not take it again before a visitor has had it. The kick makes that point
 * come now; where it falls between the last look and the entry, the guest runs until the next tick. However many visitors there
 * are, the guest runs between two times that it is given up for them.
 */
asmlinkage void lg_vcpu_visit(struct lg_vcpu *vcpu)
{
	atomic_inc(&vcpu->visitors);
	/* Asleep, it wakes up; in the guest on another CPU, it comes out. */
	wake_up_interruptible(&vcpu->wait);
	preempt_disable();
	kick_process(vcpu->task);
	preempt_enable();
}

asmlinkage void lg_vcpu_visited(struct lg_vcpu *vcpu)
{
	atomic_inc(&vcpu->visits);
	atomic_dec(&vcpu->visitors);
	wake_up_interruptible(&vcpu->wait);
}

asmlinkage bool lg_vcpu_let_visitors_in(struct lg_vcpu *vcpu)
{
	int visits = atomic_read(&vcpu->visits);

	vcpu->visited = true;
	return wait_event_interruptible(vcpu->wait, !atomic_read(&vcpu->visitors) ||
					atomic_read(&vcpu->visits) != visits) == 0 && !signal_pending(current);
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
	lg_eventfd_count(eventfd);
}

/* ---------------------------------------------------------------- life */

/* From 1; after 4 billion guests a number may be somebody's again, which costs a barrier at the most. */
static atomic_t vcpus_made = ATOMIC_INIT(0);

asmlinkage struct lg_vcpu *lg_vcpu_create(unsigned long start, u32 pages, int *error)
{
	struct lg_vcpu *vcpu;

	/* io_uring may call a file's operations in a thread of its own, whose FPU state the kernel does not keep when it switches tasks. */
	*error = -EPERM;
	if (current->flags & (PF_KTHREAD | PF_IO_WORKER))
		return NULL;
	*error = -ENOMEM;
	vcpu = lg_should_fail() ? NULL : kzalloc(sizeof(*vcpu), GFP_KERNEL_ACCOUNT);
	if (!vcpu)
		return NULL;
	if (lg_should_fail() || !lg_fpu_alloc(&vcpu->fpu))
		goto free_vcpu;
	*error = lg_frames_init(&vcpu->frames, start, pages);
	if (*error)
		goto free_fpu;
	vcpu->number = atomic_inc_return(&vcpus_made);
	atomic_inc(&lg_memory);
	init_waitqueue_head(&vcpu->wait);
	hrtimer_setup(&vcpu->clock, clock_expired, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	vcpu->task = get_task_struct(current);
	/* The structure, not the memory, which goes with the launcher. */
	vcpu->mm = current->mm;
	mmgrab(vcpu->mm);
	return vcpu;

free_fpu:
	lg_fpu_free(&vcpu->fpu);
free_vcpu:
	kfree(vcpu);
	return NULL;
}

asmlinkage void lg_vcpu_destroy(struct lg_vcpu *vcpu)
{
	hrtimer_cancel(&vcpu->clock);
	lg_frames_exit(&vcpu->frames);
	lg_fpu_free(&vcpu->fpu);
	mmdrop(vcpu->mm);
	put_task_struct(vcpu->task);
	kfree(vcpu);
	atomic_dec(&lg_memory);
}

asmlinkage u32 lg_frame_learn(struct lg_vcpu *vcpu, u32 page, u32 purpose)
{
	return lg_frames_learn(&vcpu->frames, page, purpose);
}

asmlinkage bool lg_frames_stale(const struct lg_vcpu *vcpu)
{
	return READ_ONCE(vcpu->frames.stale);
}

asmlinkage bool lg_frames_take(struct lg_vcpu *vcpu, u32 *set)
{
	return lg_frames_take_stale(&vcpu->frames, set);
}

asmlinkage void lg_frames_counts(const struct lg_vcpu *vcpu, u32 *known, u32 *gone, u32 *retried)
{
	*known = READ_ONCE(vcpu->frames.known);
	*gone = READ_ONCE(vcpu->frames.lost);
	*retried = READ_ONCE(vcpu->frames.retried);
}

asmlinkage bool lg_vcpu_is_mine(const struct lg_vcpu *vcpu)
{
	return vcpu->task == current && vcpu->mm == current->mm;
}

/* ---------------------------------------------------------------- nothing of one world in the other */

/*
 * What the host's processes and other guests leave in a processor, and what Linux's KVM does about it, each by
 * the kernel's own switches, which follow the processor and the command line (mitigations=):
 *
 * - Buffers that a guest could sample (MDS, TAA, MMIO stale data, RFDS, TSA): VERW, by the Switcher, after its
 *   last access to anything of the host's. lg_must_clear_buffers() shows whether.
 * - Indirect branches that one guest has trained for another: a barrier when a processor enters another guest
 *   than the last one.
 * - Returns that a guest has prepared for the host: lg_fill_return_stack(), before the first of the host's.
 *
 * L1TF needs nothing: a guest's own page tables are never walked, and a shadow entry that is not present is 0.
 */
/* Overwrites what a guest may have left for returns to predict, where Linux does so after a guest (lg_barriers.S). */
asmlinkage void lg_fill_return_stack(void);

static DEFINE_PER_CPU(u32, last_vcpu);

static void separate_guests(const struct lg_vcpu *vcpu)
{
	if (__this_cpu_read(last_vcpu) == vcpu->number)
		return;
	__this_cpu_write(last_vcpu, vcpu->number);
	lg_separate_predictions();
}

/*
 * What a process has requested of the processor for itself, and the guest must not run with: breakpoints (they are not
 * for the guest's addresses), single-stepping by branches, an LDT. Hardly any process has, so one test must do: not
 * 0 if this one has.
 */
static __always_inline unsigned long to_put_away(unsigned long flags)
{
	unsigned long ldt;

	asm("sldt %0" : "=r" (ldt));
	return (__this_cpu_read(cpu_dr7) & DR_GLOBAL_ENABLE_MASK) | (flags & _TIF_BLOCKSTEP) | ldt;
}

static noinline void put_away(struct lg_vcpu *vcpu, unsigned long flags)
{
	vcpu->away.breakpoints = local_db_save();
	vcpu->away.block_step = flags & _TIF_BLOCKSTEP;
	if (vcpu->away.block_step)
		update_debugctlmsr(get_debugctlmsr() & ~DEBUGCTLMSR_BTF);
	store_ldt(vcpu->away.ldt);
	asm volatile("lldt %w0" : : "r" (0));
}

static noinline void bring_back(struct lg_vcpu *vcpu)
{
	asm volatile("lldt %0" : : "m" (vcpu->away.ldt));
	if (vcpu->away.block_step)
		update_debugctlmsr(get_debugctlmsr() | DEBUGCTLMSR_BTF);
	local_db_restore(vcpu->away.breakpoints);
}

asmlinkage bool lg_clears_buffers(void)
{
	return lg_must_clear_buffers();
}

/* From here to lg_vcpu_put() the FPU is the guest's. */
asmlinkage void lg_vcpu_load(struct lg_vcpu *vcpu)
{
	lg_fpu_enter(&vcpu->fpu);
	/* Another guest may have run here since the last time. If one does from now on, lg_vcpu_enter() sees it. */
	preempt_disable();
	separate_guests(vcpu);
	preempt_enable();
}

asmlinkage void lg_vcpu_put(struct lg_vcpu *vcpu)
{
	lg_fpu_leave(&vcpu->fpu);
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

/* Calls the host's handler of a vector as the processor would have, with interrupts off. `flags` is what it returns to. */
static void replay(u8 vector, unsigned long flags)
{
	struct desc_ptr idt;
	unsigned long handler;

	store_idt(&idt);
	handler = gate_offset((gate_desc *)idt.address + vector);
	asm volatile("push %[flags]\n\t"
		     "push %%cs\n\t"
		     CALL_NOSPEC
		     : ASM_CALL_CONSTRAINT
		     : [thunk_target] "a" (handler), [flags] "r" (flags)
		     : "memory", "cc");
}

/*
 * Gives an interrupt that ended the guest's run to the host, which never saw it. It interrupted a guest with interrupts
 * on, and returns to code with interrupts on: where it does not, newer kernels leave the next event of the processor's clock
 * unarmed, for an end of an interrupt that would come later.
 */
static void replay_interrupt(u8 vector)
{
	replay(vector, native_save_fl() | X86_EFLAGS_IF);
	local_irq_disable();
}

static void set_ts(void)
{
	asm volatile("mov %0, %%cr0" : : "r" (read_cr0() | X86_CR0_TS) : "memory");
}

/* What came while the Switcher was on its way out. */
static void replay_events(unsigned long events)
{
	unsigned long nmis = events & (BIT(LG_MACHINE_CHECKS_SHIFT) - 1);
	unsigned long machine_checks = events >> LG_MACHINE_CHECKS_SHIFT;

	while (nmis--)
		replay(X86_TRAP_NMI, native_save_fl());
	while (machine_checks--)
		replay(X86_TRAP_MC, native_save_fl());
}

/* Exceptions that end a run and concern the host as well. */
#define LG_CONCERNS_HOST (BIT(X86_TRAP_DB) | BIT(X86_TRAP_NMI) | BIT(X86_TRAP_PF) | BIT(X86_TRAP_MC))

/*
 * What the host must do, with interrupts off, about the vector that ended a run. Returns whether the fault was one of
 * the host's own: where it is a guest of KVM, a page of its own may be on its way.
 */
static bool concern_host(struct lg_vcpu *vcpu, u8 vector, unsigned long missed)
{
	switch (vector) {
	case X86_TRAP_DB:
		/* What single steps leave there would be found by the next debug exception, whoever's it is. */
		set_debugreg(DR6_RESERVED, 6);
		return false;
	case X86_TRAP_PF:
		/* Before anything is let in that may fault itself. */
		vcpu->cr2 = native_read_cr2();
		vcpu->missed = missed;
		return lg_page_of_host_on_its_way();
	case LG_TRAP_HYPERCALL:
		/* Of hypercalls only those that the Switcher has missed something for come here. */
		vcpu->missed = missed;
		return false;
	case X86_TRAP_NMI:
	case X86_TRAP_MC:
		replay(vector, native_save_fl());
		return false;
	case IA32_SYSCALL_VECTOR:
		/* The only vector above the exceptions that no hardware uses. */
		return false;
	default:
		if (vector >= FIRST_EXTERNAL_VECTOR)
			replay_interrupt(vector);
		return false;
	}
}

asmlinkage u32 lg_vcpu_enter(struct lg_vcpu *vcpu, void *state, u32 seen, u32 ts)
{
	unsigned long flags, away, gs, events, missed, clear_buffers, vector;
	bool page_on_its_way = false;

	/*
	 * The replayed interrupt's own end does not reschedule, since preemption is off: preempt_enable() does. In between no
	 * lock is taken, so that this is the same under PREEMPT_RT.
	 */
	preempt_disable();
	local_irq_disable();

	/*
	 * From here on each interrupt ends the run at once. What arrived before, since the caller
	 * looked, would go unnoticed until the next interrupt.
	 */
	flags = read_thread_flags();
	vector = FIRST_EXTERNAL_VECTOR;
	if (unlikely(flags & (LG_SIGNAL_FLAGS | _TIF_NOTIFY_RESUME | LG_RESCHEDULE_FLAGS)) ||
	    unlikely(READ_ONCE(vcpu->pending) != seen))
		goto out;
	if (unlikely(!lg_frames_enter(&vcpu->frames)))
		goto out;
	lg_global_pages_still_off();
	/* Being scheduled away leaves the guest's FPU state in memory, and may let another guest run here. */
	if (unlikely(flags & _TIF_NEED_FPU_LOAD)) {
		lg_fpu_reload();
		separate_guests(vcpu);
	}
	away = to_put_away(flags);
	if (unlikely(away))
		put_away(vcpu, flags);
	/* SYSENTER would take the guest into the host's ring 0. */
	if (cpu_feature_enabled(X86_FEATURE_SEP))
		native_wrmsr(MSR_IA32_SYSENTER_CS, 0, 0);
	if (unlikely(ts))
		set_ts();
	savesegment(gs, gs);

	/* The frame is that of an interrupt; the Switcher comes back by iret, %gs null. */
	clear_buffers = lg_must_clear_buffers();
	asm volatile("pushf\n\t"
		     "lcall *%[target]"
		     : "=a" (vector), "=d" (events), "=D" (missed), "+S" (clear_buffers)
		     : [target] "m" (switcher_entry), "0" (state)
		     : "ebx", "ecx", "memory", "cc");
	if (cpu_feature_enabled(X86_FEATURE_RSB_VMEXIT) || cpu_feature_enabled(X86_FEATURE_RSB_VMEXIT_LITE))
		lg_fill_return_stack();
	/* Before the interrupt that ended the run is given to the host: it may be the one that waits for this. */
	lg_frames_leave(&vcpu->frames);

	if (unlikely(ts))
		asm volatile("clts");
	if (unlikely(away))
		bring_back(vcpu);
	/* Its LDT entry may be gone since the process loaded it; then the fix-up loads null. */
	loadsegment(gs, gs);
	if (cpu_feature_enabled(X86_FEATURE_SEP))
		native_wrmsr(MSR_IA32_SYSENTER_CS, current->thread.sysenter_cs, 0);
	if (vector >= FIRST_EXTERNAL_VECTOR || BIT(vector) & LG_CONCERNS_HOST)
		page_on_its_way = concern_host(vcpu, vector, missed);
	if (unlikely(events))
		replay_events(events);
out:
	local_irq_enable();
	preempt_enable();
	if (likely(!page_on_its_way))
		return vector;

	local_irq_disable();
	lg_wait_for_page_of_host(vcpu->cr2);
	local_irq_enable();
	return FIRST_EXTERNAL_VECTOR;
}
