/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which frame of the host's holds each page of a guest's memory: lg_frames.c. For C only; Rust reads the words.
 */
#ifndef LG_FRAMES_H
#define LG_FRAMES_H

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/mmu_notifier.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "lg_shared.h"

struct lg_frames {
	/*
	 * A word for each page of the guest's: 0 while nothing is known, else LG_FRAME_KNOWN, perhaps LG_FRAME_WRITABLE, and
	 * from LG_FRAME_SHIFT on the number of its frame. Rust's as well, to be read.
	 */
	u32 *words;
	u32 pages;
	/* The launcher's address of the first page. */
	unsigned long start;
	struct mmu_notifier notifier;

	/* Guards what follows, and changes of the words. Taken with a page-table lock held, by tasks only: nothing is taken within it. */
	spinlock_t lock;
	/* Invalidations that have begun and not ended, and how many have ended. */
	u32 invalidations;
	u32 sequence;
	/* Waits for the end of all invalidations. */
	wait_queue_head_t none;
	/* A bit for the low bits of each frame that has gone out of the words since the last lg_frames_take(). */
	unsigned long gone[LG_STALE_BITS / BITS_PER_LONG];
	/* Whether there is one. */
	u32 stale;
	/* What is counted for people: pages known now, frames that have gone so far, and those that went while they were looked for. */
	u32 known, lost, retried;
	/* The processor that is in the guest, or about to be; -1 for none. */
	int running_on;
	/* How often the guest has been left: what shows that it was, when an invalidation has begun. */
	u32 exits;
};

/* The parameter `ahead` (lg_main.c). */
extern bool lg_ahead_allowed;

/* Of a virtual CPU of the current process, all of whose other memory is zero. An error as the kernel has it. May sleep. */
int lg_frames_init(struct lg_frames *frames, unsigned long start, u32 pages);
/* After this, nothing uses it. May sleep. */
void lg_frames_exit(struct lg_frames *frames);
/* See lg_frame_learn() and lg_frames_take() in lg_shim.h. */
u32 lg_frames_learn(struct lg_frames *frames, u32 page, u32 purpose);
bool lg_frames_take_stale(struct lg_frames *frames, u32 *set);

/* The guest has been left, or is not entered after all. */
static __always_inline void lg_frames_leave(struct lg_frames *frames)
{
	WRITE_ONCE(frames->exits, frames->exits + 1);
	smp_store_release(&frames->running_on, -1);
}

/*
 * The barrier between the guest and invalidations (ARCHITECTURE.md, invariant 16). Called with interrupts off; false: there are
 * stale entries, and the guest is not to be entered.
 */
static __always_inline bool lg_frames_enter(struct lg_frames *frames)
{
	/* A full barrier: whoever sets `stale` afterwards sees the processor's number. */
	xchg(&frames->running_on, raw_smp_processor_id());
#ifndef PLANT_STALE_ENTRY /* A fault for a scenario to find: `cargo xtask fuzz --planted`. */
	if (likely(!READ_ONCE(frames->stale)))
		return true;
	lg_frames_leave(frames);
	return false;
#else
	return true;
#endif
}

#endif
