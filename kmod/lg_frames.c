// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which frame of the host's holds each page of a guest's memory, known for as long as it is so.
 *
 * A guest's memory is the launcher's, and Linux may take any page of it back at any time: to swap it out, to merge it with
 * an equal one, to move it, or because the launcher has unmapped it. So nothing here holds a reference on a page. What is
 * known of it goes when Linux's memory notifier (<linux/mmu_notifier.h>) reports that the page does, and with it every
 * shadow entry of the frame, before the guest runs again:
 *
 *   1. An invalidation begins: the words of its pages are cleared, their frames go into the set `gone`, `stale` is set.
 *   2. If a processor is in the guest, it is interrupted, and has left the guest when the callback returns.
 *   3. Before it enters again, lg_frames_enter() sees `stale`; the run loop takes the set, and Rust drops each shadow entry
 *      whose frame is in it. (The set has a bit for the low bits of a frame's number; an entry that is dropped without need
 *      costs one more fault.)
 *   4. Until the invalidation ends, no word of any page is set.
 *
 * The callbacks take one spinlock, and neither sleep nor allocate: they are called with a page-table lock held, or by the
 * OOM reaper, which must not wait. (Under PREEMPT_RT the lock is one that sleeps, as page-table locks are, and KVM's lock in
 * the same callbacks. A task that holds it runs a bounded stretch of code and waits for nothing.)
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>

#include "lg_compat.h"
#include "lg_frames.h"
#include "lg_shim.h"

static_assert(LG_STALE_BITS % BITS_PER_LONG == 0 && (LG_STALE_BITS & (LG_STALE_BITS - 1)) == 0);

/* ---------------------------------------------------------------- what goes */

/* Forgets the frames of these pages. With the lock held; returns how many there were. */
static u32 forget(struct lg_frames *frames, u32 from, u32 to)
{
	u32 page, word, count = 0;

	for (page = from; page < to; page++) {
		word = frames->words[page];
		if (!word)
			continue;
		/* First, so that nobody finds a frame missing and nothing stale. */
		WRITE_ONCE(frames->stale, 1);
		WRITE_ONCE(frames->words[page], 0);
		__set_bit((word >> LG_FRAME_SHIFT) % LG_STALE_BITS, frames->gone);
		count++;
	}
	frames->known -= count;
	frames->lost += count;
	atomic_sub(count, &lg_frames_known);
	atomic_add(count, &lg_frames_gone);
	return count;
}

/* The pages of the guest's in a range of the launcher's addresses; false when there are none. */
static bool pages_in(const struct lg_frames *frames, unsigned long start, unsigned long end, u32 *from, u32 *to)
{
	unsigned long guest_end = frames->start + (unsigned long)frames->pages * PAGE_SIZE;

	if (start >= guest_end || end <= frames->start)
		return false;
	*from = start > frames->start ? (start - frames->start) / PAGE_SIZE : 0;
	*to = end < guest_end ? DIV_ROUND_UP(end - frames->start, PAGE_SIZE) : frames->pages;
	return true;
}

static void __maybe_unused nothing(void *unused)
{
}

/* Returns when the guest has been left since `stale` was set, or is not being run. */
static void interrupt_guest(struct lg_frames *frames)
{
	u32 exits;
	int cpu;

	/* The other half of lg_frames_enter(): `stale` is there before the processor's number is read. */
	smp_mb();
	exits = READ_ONCE(frames->exits);
	cpu = smp_load_acquire(&frames->running_on);
	if (cpu < 0)
		return;
	/* The guest runs with interrupts on, so that it is left for this one; where it is about to be entered, the interrupt waits. */
#ifndef PLANT_NO_INTERRUPTION /* A fault for the fuzzer to find: `cargo xtask fuzz --planted`. */
	smp_call_function_single(cpu, nothing, NULL, true);
#endif
	WARN_ON_ONCE(READ_ONCE(frames->exits) == exits && smp_load_acquire(&frames->running_on) >= 0);
}

/* How many words are looked at before the lock is given up for a moment. */
#define LG_WORDS_AT_ONCE 4096

static void begin(struct lg_frames *frames, u32 from, u32 to)
{
	u32 next;

	/* From here on nothing is learnt, also while the lock is free. */
	spin_lock(&frames->lock);
	frames->invalidations++;
	spin_unlock(&frames->lock);
	for (; from < to; from = next) {
		next = min(to, from + LG_WORDS_AT_ONCE);
		spin_lock(&frames->lock);
		forget(frames, from, next);
		spin_unlock(&frames->lock);
	}
	/* Also for frames that have gone before without an interruption, by their age. */
	if (READ_ONCE(frames->stale))
		interrupt_guest(frames);
}

static void end(struct lg_frames *frames)
{
	bool last;

	spin_lock(&frames->lock);
	frames->sequence++;
	last = --frames->invalidations == 0;
	spin_unlock(&frames->lock);
	if (last)
		wake_up_all(&frames->none);
}

static struct lg_frames *of(struct mmu_notifier *notifier)
{
	return container_of(notifier, struct lg_frames, notifier);
}

static int invalidate_range_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	u32 from, to;

	if (pages_in(of(notifier), range->start, range->end, &from, &to))
		begin(of(notifier), from, to);
	return 0;
}

static void invalidate_range_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	u32 from, to;

	if (pages_in(of(notifier), range->start, range->end, &from, &to))
		end(of(notifier));
}

/* The processor's accessed bits are in the shadow, where nobody looks for them: a page that is known was accessed. */
static lg_young clear_young(struct mmu_notifier *notifier, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct lg_frames *frames = of(notifier);
	u32 from, to, count;

	if (!pages_in(frames, start, end, &from, &to))
		return 0;
	spin_lock(&frames->lock);
	count = forget(frames, from, to);
	spin_unlock(&frames->lock);
	return count != 0;
}

static lg_young test_young(struct mmu_notifier *notifier, struct mm_struct *mm, unsigned long address)
{
	u32 from, to;

	return pages_in(of(notifier), address, address + 1, &from, &to) && READ_ONCE(of(notifier)->words[from]);
}

/* The launcher's memory goes as a whole, and never comes back. */
static void release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	begin(of(notifier), 0, of(notifier)->pages);
}

static const struct mmu_notifier_ops operations = {
	.release = release,
	.clear_flush_young = clear_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.invalidate_range_start = invalidate_range_start,
	.invalidate_range_end = invalidate_range_end,
};

/* ---------------------------------------------------------------- what is learnt */

/*
 * Gets a reference on the page at a user address. `writable` comes out as whether the process may write to it without Linux
 * putting another in its place: such a page is in nobody else's memory, or shared on purpose. `brought_in`: Linux had to do
 * that first.
 */
static int get_page_at(unsigned long user, u32 purpose, struct page **page, bool *writable, bool *brought_in)
{
	int got;

	*writable = true;
	*brought_in = false;
	got = get_user_pages_fast_only(user, 1, FOLL_WRITE, page);
	if (got == 1)
		return got;
	if (purpose != LG_FOR_READING) {
		got = get_user_pages_fast(user, 1, FOLL_WRITE, page);
		*brought_in = got == 1;
		if (got == 1 || purpose == LG_FOR_WRITING)
			return got;
	}
	*writable = false;
	got = get_user_pages_fast_only(user, 1, 0, page);
	return got == 1 ? got : get_user_pages_fast(user, 1, 0, page);
}

/* Waits until no invalidation is under way; false when the task is to die. */
static bool __maybe_unused wait_for_none(struct lg_frames *frames)
{
	return wait_event_killable(frames->none, !READ_ONCE(frames->invalidations)) == 0;
}

static u32 word_of(struct page *page, bool writable)
{
	/* While there is a reference, and before the guest may write. */
	if (writable && !PageDirty(page))
		set_page_dirty_lock(page);
	return LG_FRAME_KNOWN | (writable ? LG_FRAME_WRITABLE : 0) | page_to_pfn(page) << LG_FRAME_SHIFT;
}

/* A page's word, with the lock held. */
static void set_word(struct lg_frames *frames, u32 page_number, u32 word)
{
	if (!frames->words[page_number]) {
		frames->known++;
		atomic_inc(&lg_frames_known);
	}
	WRITE_ONCE(frames->words[page_number], word);
}

/*
 * Whether what was found since `sequence` was read still holds: no invalidation is under way, and none has ended. With the lock
 * held.
 */
static bool nothing_has_gone(const struct lg_frames *frames, u32 sequence)
{
#ifndef PLANT_NO_SEQUENCE /* A fault for a scenario to find, here and below: `cargo xtask fuzz --planted`. */
	return likely(!frames->invalidations && frames->sequence == sequence);
#else
	return true;
#endif
}

/* How many pages are learnt ahead of one. */
#define LG_AHEAD 15

/*
 * A guest that touches pages for the first time does so one after the other, as a rule: Linux hands out blocks of memory from
 * their beginning. Where the page before this one is known, the next ones are learnt, too, up to one that is known. If Linux had
 * to bring this one in, it brings in those, where there is nothing yet: what takes longest of a page is not that it is zeroed,
 * but the guest's exit and the search for it.
 */
static void learn_ahead(struct lg_frames *frames, u32 page_number, bool brought_in)
{
	u32 first = page_number + 1, count = 0, i, sequence;
	struct page *pages[LG_AHEAD];
	u32 words[LG_AHEAD];
	unsigned long user;
	int got;

	if (!READ_ONCE(lg_ahead_allowed) || page_number == 0 || !READ_ONCE(frames->words[page_number - 1]))
		return;
	while (count < LG_AHEAD && first + count < frames->pages && !READ_ONCE(frames->words[first + count]))
		count++;
	sequence = READ_ONCE(frames->sequence);
	/* As in lg_frames_learn(); but where something is invalidated meanwhile, all is left as it was. */
	smp_rmb();
	if (!count || READ_ONCE(frames->invalidations) || lg_should_fail())
		return;
	user = frames->start + (unsigned long)first * PAGE_SIZE;
	got = get_user_pages_fast_only(user, count, FOLL_WRITE, pages);
	if (got <= 0) {
		if (!brought_in)
			return;
		/* One that is there has been merged with an equal one, or is a file's: not to be copied before the guest writes. */
		if (get_user_pages_fast_only(user, 1, 0, pages) == 1) {
			put_page(pages[0]);
			return;
		}
		got = get_user_pages_fast(user, count, FOLL_WRITE, pages);
		if (got <= 0)
			return;
	}
	count = got;
	for (i = 0; i < count; i++)
		words[i] = word_of(pages[i], true);
	spin_lock(&frames->lock);
	if (nothing_has_gone(frames, sequence))
		for (i = 0; i < count; i++)
			if (!frames->words[first + i])
				set_word(frames, first + i, words[i]);
	spin_unlock(&frames->lock);
	for (i = 0; i < count; i++)
		put_page(pages[i]);
}

u32 lg_frames_learn(struct lg_frames *frames, u32 page_number, u32 purpose)
{
	unsigned long user = frames->start + (unsigned long)page_number * PAGE_SIZE;
	struct page *page;
	u32 sequence, word;
	bool writable, brought_in;

	if (lg_should_fail())
		return 0;
	for (;;) {
		sequence = READ_ONCE(frames->sequence);
		/* Before the page is looked for: what is invalidated from here on is seen below. */
		smp_rmb();
#ifndef PLANT_NO_SEQUENCE
		if (READ_ONCE(frames->invalidations) && !wait_for_none(frames))
			return 0;
#endif
		if (get_page_at(user, purpose, &page, &writable, &brought_in) != 1)
			return 0;
		word = word_of(page, writable);

		spin_lock(&frames->lock);
		if (nothing_has_gone(frames, sequence)) {
			/* The same page, now for writing; another one would have been reported. */
			if (frames->words[page_number] && WARN_ON_ONCE((frames->words[page_number] ^ word) >> LG_FRAME_SHIFT))
				forget(frames, page_number, page_number + 1);
			set_word(frames, page_number, word);
			spin_unlock(&frames->lock);
			put_page(page);
			if (writable)
				learn_ahead(frames, page_number, brought_in);
			return word;
		}
		frames->retried++;
		spin_unlock(&frames->lock);
		put_page(page);
		atomic_inc(&lg_frames_retried);
		if (fatal_signal_pending(current))
			return 0;
		cond_resched();
	}
}

bool lg_frames_take_stale(struct lg_frames *frames, u32 *set)
{
	if (likely(!READ_ONCE(frames->stale)))
		return false;
	spin_lock(&frames->lock);
	memcpy(set, frames->gone, sizeof(frames->gone));
	memset(frames->gone, 0, sizeof(frames->gone));
	WRITE_ONCE(frames->stale, 0);
	spin_unlock(&frames->lock);
	return true;
}

/* ---------------------------------------------------------------- life */

int lg_frames_init(struct lg_frames *frames, unsigned long start, u32 pages)
{
	int error;

	if (lg_should_fail())
		return -ENOMEM;
	frames->words = __vmalloc(array_size(pages, sizeof(u32)), GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!frames->words)
		return -ENOMEM;
	frames->pages = pages;
	frames->start = start;
	frames->running_on = -1;
	spin_lock_init(&frames->lock);
	init_waitqueue_head(&frames->none);
	frames->notifier.ops = &operations;
	error = lg_should_fail() ? -ENOMEM : mmu_notifier_register(&frames->notifier, current->mm);
	if (error) {
		vfree(frames->words);
		return error;
	}
	atomic_inc(&lg_memory);
	return 0;
}

void lg_frames_exit(struct lg_frames *frames)
{
	/* Calls `release` unless the memory has gone already, and waits for callbacks. */
	mmu_notifier_unregister(&frames->notifier, frames->notifier.mm);
	vfree(frames->words);
	atomic_dec(&lg_memory);
}
