/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The border between the kernel's C and our Rust: every function that crosses it, in either direction.
 *
 * The kernel is compiled with -mregparm=3 and Rust is not, so everything here is `asmlinkage`. Only
 * integers and pointers cross. `cargo xtask build` refuses a module whose Rust side (src/) declares or defines
 * any of these functions otherwise. Numbers that both sides must know are Rust's (src/shared.rs); from them it
 * writes lg_shared.h.
 *
 * Errors are negative errnos. "May sleep" means: process context, interrupts on.
 */
#ifndef LG_SHIM_H
#define LG_SHIM_H

#include <linux/compiler.h>
#include <linux/linkage.h>
#include <linux/types.h>

#include "lg_shared.h"

/* ---------------------------------------------------------------- Rust, called by C */

/*
 * Module load: puts the Switcher in place. `levels` are those of the host's page tables; `seed` comes in
 * two halves. May sleep.
 */
asmlinkage int lg_rust_init(u32 levels, u32 no_execute, u32 max_guests, u32 seed_low, u32 seed_high);
/* Module unload; no guest is left. May sleep. */
asmlinkage void lg_rust_exit(void);
/* Whether a strategy's text can be served; if not, the log lists what can, and the result is -EINVAL. */
asmlinkage int lg_rust_check_strategy(const char *text, u32 length, u32 levels);
/* The list of strategies for people: bytes written, at most `size`. */
asmlinkage u32 lg_rust_strategies(char *to, u32 size);

struct lg_user;

/*
 * /dev/lguest. `open` returns what the others get as `file`, or NULL when memory is short; the reference on `user`, who has
 * opened it, is Rust's from then on, also when it fails. Where
 * `release_is_long` returns true, `release` has too much to give back for a process that may be waiting for its own
 * end. All may sleep.
 */
asmlinkage void *lg_rust_open(struct lg_user *user);
asmlinkage bool lg_rust_release_is_long(const void *file);
asmlinkage void lg_rust_release(void *file);
asmlinkage long lg_rust_read(const void *file, unsigned long user, u32 size);
asmlinkage long lg_rust_write(const void *file, unsigned long user, u32 size);

/* The last user of the file is gone: its guest's folder in debugfs goes, as soon as nobody looks any more. May sleep. */
asmlinkage void lg_rust_close_views(const void *file);

struct lg_text;

/*
 * The text of a view of the file's guest, one of LG_VIEW_…, which is the caller's from then on, or an error. The guest
 * stands still meanwhile. May sleep.
 */
asmlinkage long lg_rust_show(const void *file, u32 view, struct lg_text **text);

/* For each trace event, whether somebody watches it: bits LG_OBSERVED_…, which C sets. */
extern u32 lg_rust_observed;

/* ---------------------------------------------------------------- C, called by Rust: general */

/* Logs a line as an error. */
asmlinkage void lg_log_error(const char *text, u32 length);
/*
 * Whether something that a launcher of this user's has brought about may be logged, which is to be checked before the first
 * line of it: for a few things in so many seconds (lg_user.c).
 */
asmlinkage bool lg_log_for_user(const struct lg_user *user);
/* Logs why, then BUG(): for a panic in Rust, which is a defect of this module and nothing else. */
asmlinkage void lg_bug(const char *text, u32 length) __noreturn;

/* The strategy that guests get who do not choose: bytes written, at most `size`. May sleep. */
asmlinkage u32 lg_default_strategy(char *to, u32 size);
/* After how many operations a guest's shadow tables are audited, 0 for never. */
asmlinkage u32 lg_audit_every(void);
/* Whether the Switcher may reflect page faults of guests that are started now. */
asmlinkage bool lg_reflect(void);
/* Whether it may do the hypercalls of a switch to another process for them. */
asmlinkage bool lg_switch(void);
/* Whether it may fill missing entries of their shadow tables. */
asmlinkage bool lg_fill(void);
/* Guests that exist: /sys/module/lg/parameters/guests. */
asmlinkage void lg_count_guests(int change);
/* Pages and references that strategies forgot: /sys/module/lg/parameters/forgotten. */
asmlinkage void lg_count_forgotten(u32 pages);

/* Whether the virtual CPU that is about to be taken is to be refused (lg_fail.c). */
asmlinkage bool lg_fail_vcpu(void);

/*
 * A mutex, made and used by Rust; `create` returns NULL when memory is short. All but `unlock` and `try_lock` may
 * sleep. `lock` gives up, and returns false, when the task is killed. Who holds one may lock an inner one, and nothing
 * while it holds that.
 */
struct mutex;
asmlinkage struct mutex *lg_mutex_create(bool inner);
asmlinkage void lg_mutex_destroy(struct mutex *mutex);
asmlinkage bool lg_mutex_lock(struct mutex *mutex);
asmlinkage bool lg_mutex_try_lock(struct mutex *mutex);
asmlinkage void lg_mutex_unlock(struct mutex *mutex);

/* ---------------------------------------------------------------- memory (lg_memory.c) */

/* Where physical memory is mapped, from 0 on; tables are. */
asmlinkage u32 lg_direct_map(void);

/* A zeroed page for a page table and its frame number, or NULL. Counted as `tables`. May sleep. */
asmlinkage void *lg_table_alloc(u32 *frame);
asmlinkage void lg_table_free(void *page);

/* Whether a range belongs to user space as a whole; true is needed before the copies below. */
asmlinkage bool lg_user_range_ok(unsigned long user, u32 size);
/* Copies from or to the current process; false when a page cannot be had. May sleep. */
asmlinkage bool lg_copy_from_user(void *to, unsigned long user, u32 size);
asmlinkage bool lg_copy_to_user(unsigned long user, const void *from, u32 size);
/*
 * Reads the status byte of an entry in the ring of hypercalls, and the call if that is not LG_RING_DONE: returns 1 with a
 * call, 0 without, or -EFAULT.
 */
asmlinkage int lg_get_ring_entry(void *call, unsigned long status, unsigned long user);
/* The same as the copies for single values, faster. The first returns the value, with bit 32 set if it could be had. */
asmlinkage u64 lg_get_user_32(unsigned long user);
asmlinkage bool lg_get_user_64(u64 *to, unsigned long user);
asmlinkage bool lg_put_user_8(unsigned long user, u8 value);
asmlinkage bool lg_put_user_32(unsigned long user, u32 value);

/* ---------------------------------------------------------------- users (lg_user.c) */

/* Who has opened a file, with one more reference. */
asmlinkage struct lg_user *lg_user_get(struct lg_user *user);
asmlinkage void lg_user_put(struct lg_user *user);
/* Counts a guest of the user's; false when there may be no more (the parameter guests_per_user). */
asmlinkage bool lg_user_add_guest(struct lg_user *user);
asmlinkage void lg_user_remove_guest(struct lg_user *user);
/* Counts memory for the user's guests; false when that would be more than they may take (the parameter user_kib). */
asmlinkage bool lg_user_charge(struct lg_user *user, u32 bytes);
asmlinkage void lg_user_uncharge(struct lg_user *user, u32 bytes);

/* ---------------------------------------------------------------- plug-in code (lg_plugin.c) */

/*
 * What is kept of a guest's plug-in code, its strategy and policy. One word is for both sides: whether plug-in code
 * is at work, as one of LG_PLUGIN_…. It is used by who has the guest's session, one task at a time.
 */
struct lg_plugin;

/* Of a guest of the user's, who outlives it, with so many pages; NULL when memory is short. May sleep. */
asmlinkage struct lg_plugin *lg_plugin_create(struct lg_user *user, u32 guest_pages);
asmlinkage void lg_plugin_destroy(struct lg_plugin *plugin);
/*
 * Calls `call`, and returns true when it has returned. Where lg_plugin_panicked() was called instead, false is returned:
 * nothing of what `call` had on the stack is there any more. One of a task's at a time. May sleep.
 */
asmlinkage bool lg_plugin_guard(struct lg_plugin *plugin, void (*call)(void *), void *data);
/* The plug-in code that the current task runs at this moment, or NULL. */
asmlinkage struct lg_plugin *lg_plugin_at_work(void);
/* Plug-in code that is at work has panicked: its call of lg_plugin_guard() returns. At most LG_LINE bytes of words are kept. */
asmlinkage void lg_plugin_panicked(struct lg_plugin *plugin, const char *words, u32 length) __noreturn;
/* The words of the last panic. */
asmlinkage const char *lg_plugin_words(const struct lg_plugin *plugin, u32 *length);
/*
 * Counts bytes that the guest's strategy or page tables take of the host; false when that would be more than it may have
 * (the parameter paging_kib), or all guests of its user may have (user_kib).
 */
asmlinkage bool lg_plugin_charge(struct lg_plugin *plugin, u32 size);
asmlinkage void lg_plugin_uncharge(struct lg_plugin *plugin, u32 size);
/* Whether the last that was refused was so for the guest's user, and nothing has been counted since. */
asmlinkage bool lg_plugin_at_user_limit(const struct lg_plugin *plugin);
/* Frees all memory that plug-in code has allocated and not freed. Nobody uses it any more. May sleep. */
asmlinkage void lg_plugin_reclaim(struct lg_plugin *plugin);

/*
 * Kernel memory for Rust, or NULL; it belongs to the plug-in code that is at work, if any is. `align` is a power of two.
 * May sleep.
 */
asmlinkage void *lg_alloc(u32 size, u32 align);
asmlinkage void lg_free(void *memory);

/* ---------------------------------------------------------------- the Switcher area (lg_area.c) */

/*
 * Maps `pages` zeroed pages near the top of the address space, within one multiple of `span` bytes, the
 * first of them holding `text`, executable and read-only. Returns the address, or 0 after reporting why in
 * the log. May sleep.
 */
asmlinkage unsigned long lg_area_create(u32 pages, u32 span, const void *text, u32 length);
asmlinkage void lg_area_destroy(void);
/* The frame number of the area's n-th page. */
asmlinkage u32 lg_area_frame(u32 n);

/* ---------------------------------------------------------------- virtual CPUs (lg_vcpu.c) */

struct lg_vcpu;

/* The Switcher's entry: the selector and address that lg_vcpu_enter() calls. */
asmlinkage void lg_vcpu_set_entry(u32 selector, u32 address);
/*
 * A virtual CPU that the current task runs; or NULL, and why not: -ENOMEM, -EINTR where the task has a signal to handle, or -EPERM
 * where it is one of the kernel's own threads, as io_uring's are.
 * Its guest's memory are so many pages of the task's, from this address of user space on. May sleep.
 */
asmlinkage struct lg_vcpu *lg_vcpu_create(unsigned long start, u32 pages, int *error);
asmlinkage void lg_vcpu_destroy(struct lg_vcpu *vcpu);
/* Whether the current task is the one that made it. */
asmlinkage bool lg_vcpu_is_mine(const struct lg_vcpu *vcpu);
/*
 * Finds out which frame holds a page of the guest's, for one of the purposes LG_FOR_…, and returns its word (lg_frames.h); 0
 * when there is none. Sleeps.
 */
asmlinkage u32 lg_frame_learn(struct lg_vcpu *vcpu, u32 page, u32 purpose);
/* Whether frames have gone since the last lg_frames_take(). */
asmlinkage bool lg_frames_stale(const struct lg_vcpu *vcpu);
/*
 * Whether frames have gone since the last time. Then their set is stored, a bit of LG_STALE_BITS for the low bits of each
 * number, and the guest may be entered when no shadow entry leads to one of them.
 */
asmlinkage bool lg_frames_take(struct lg_vcpu *vcpu, u32 *set);
/* How many pages' frames are known; how many frames have gone; and how many of them while they were looked for. */
asmlinkage void lg_frames_counts(const struct lg_vcpu *vcpu, u32 *known, u32 *gone, u32 *retried);
/* Around a series of entries: gives the FPU to the guest, and back. */
asmlinkage void lg_vcpu_load(struct lg_vcpu *vcpu);
/* Whether this processor's buffers are to be cleared before a guest runs. */
asmlinkage bool lg_clears_buffers(void);
asmlinkage void lg_vcpu_put(struct lg_vcpu *vcpu);
/*
 * Runs the guest until something happens, unless an interrupt other than those `seen` became pending, or
 * the task has something else to do; then it looks as if a hardware interrupt had come at once. `state` is
 * the state page. With `ts`, CR0.TS is set meanwhile. Returns the vector; after a page fault, the
 * virtual CPU's `cr2` is CR2, and `missed` an address of the guest's kernel that the Switcher missed, or 0. After a hypercall with the
 * bit for that, `missed` is such an address, too.
 */
asmlinkage u32 lg_vcpu_enter(struct lg_vcpu *vcpu, void *state, u32 seen, u32 ts);
/* Reschedules if need be; returns whether the task has a signal to handle, or visitors wait. May sleep. */
asmlinkage bool lg_vcpu_interrupted(struct lg_vcpu *vcpu);
/* The same in the middle of long work; returns whether the task is being killed. May sleep. */
asmlinkage bool lg_vcpu_reschedule_point(void);
/* Makes a virtual interrupt (below 32) pending, from any context, and sees that the guest gets it. */
asmlinkage void lg_vcpu_raise(struct lg_vcpu *vcpu, u32 irq);
/* Sleeps until an interrupt of `mask` is pending, or a signal. */
asmlinkage void lg_vcpu_wait(struct lg_vcpu *vcpu, u32 mask);
/* Raises interrupt 0 after so many nanoseconds; 0 stops the clock. May sleep. */
asmlinkage void lg_vcpu_set_timer(struct lg_vcpu *vcpu, u32 nanoseconds);

/*
 * Around a visit by another task: who runs the guest is asked to give it up, and may have it back. `let_visitors_in`, by who
 * has given it up, returns when a visitor has gone or none is left, or the task has a signal to handle; it returns whether it has
 * none. May sleep.
 */
asmlinkage void lg_vcpu_visit(struct lg_vcpu *vcpu);
asmlinkage void lg_vcpu_visited(struct lg_vcpu *vcpu);
asmlinkage bool lg_vcpu_let_visitors_in(struct lg_vcpu *vcpu);

/* The wall clock: seconds and nanoseconds. */
asmlinkage void lg_wall_clock(u32 *seconds, u32 *nanoseconds);
/* Speed of the time-stamp counter in kHz; 0 when it is not constant. */
asmlinkage u32 lg_tsc_khz(void);

/* Eventfds. `get` returns NULL when `fd` is none. */
struct eventfd_ctx;
asmlinkage struct eventfd_ctx *lg_eventfd_get(int fd);
asmlinkage void lg_eventfd_put(struct eventfd_ctx *eventfd);
asmlinkage void lg_eventfd_signal(struct eventfd_ctx *eventfd);

/* ---------------------------------------------------------------- recordings (lg_recording.c) */

struct lg_recording;

/*
 * A ring for the recording of the current process's guest with this number, which counts to the guest's user, and its file;
 * NULL after reporting why in the log. May sleep.
 */
asmlinkage struct lg_recording *lg_recording_create(u32 number, struct lg_plugin *plugin);
/* Adds a piece, all of it or nothing; returns which. From one task only. Never waits. */
asmlinkage bool lg_recording_write(struct lg_recording *recording, const void *piece, u32 size);
/* Nothing more will come: the ring goes when a reader has read it to its end. May sleep. */
asmlinkage void lg_recording_end(struct lg_recording *recording);

/* ---------------------------------------------------------------- views (lg_views.c) */

struct lg_views;

/*
 * The folder of the current process's guest with this number in debugfs. NULL when there can be none: where the kernel has
 * debugfs, the log has the reason. May sleep.
 */
asmlinkage struct lg_views *lg_views_create(const void *file, u32 number, const struct lg_user *user);
/* Returns when nobody is opening a file of it. May sleep. */
asmlinkage void lg_views_remove(struct lg_views *views);

/* A text of so many bytes for a reader; or NULL, and why not: -ENOMEM, or -EFBIG. May sleep. */
asmlinkage struct lg_text *lg_text_create(u32 size, int *error);
asmlinkage void lg_text_destroy(struct lg_text *text);

/* ---------------------------------------------------------------- trace events (lg_trace.c) */

/* Each is an event of lg_trace.h, for whoever watches it. */
asmlinkage void lg_trace_exit(u32 guest, u32 kind, u32 vector, u32 eip);
asmlinkage void lg_trace_hypercall(u32 guest, u32 ring, u32 number, u32 a, u32 b, u32 c, u32 d);
asmlinkage void lg_trace_fault(u32 guest, u32 va, u32 error, u32 outcome);
asmlinkage void lg_trace_load(u32 guest, u32 directory, u32 hit);
asmlinkage void lg_trace_evict(u32 guest, u32 victim, u32 incoming);
asmlinkage void lg_trace_flush(u32 guest, u32 entries);
asmlinkage void lg_trace_table_alloc(u32 guest, u32 frame, u32 kind);
asmlinkage void lg_trace_table_free(u32 guest, u32 frame, u32 kind);
asmlinkage void lg_trace_in_switcher(u32 guest, u32 calls, u32 ring_calls, u32 reflected, u32 fills);

/* ---------------------------------------------------------------- between the C files */

/* The module's folder in debugfs, or why there is none. */
struct dentry;
extern struct dentry *lg_debugfs;

/* How many allocations fail on purpose, and which; and what counts them (lg_fail.c). */
extern int lg_failing[];
bool lg_fail_now(const char *where);
/* Whether the allocation that is about to be made is to fail. Checked before each that this module makes. */
#define lg_should_fail() (unlikely(READ_ONCE(lg_failing[0])) && lg_fail_now(__func__))

/* Who answers for an open file, with a reference; NULL when memory is short. May sleep. (lg_user.c) */
struct file;
struct lg_user *lg_user_of(const struct file *file);
/* A guest's user, and memory of the guest's that its plug-in code is not answerable for: as lg_user_charge(). */
struct lg_user *lg_plugin_user(const struct lg_plugin *plugin);
bool lg_plugin_charge_user(struct lg_plugin *plugin, u32 size);

/* The bytes that a parameter in KiB allows; where it is 0, those of so many pages (lg_memory.c). */
size_t lg_limit(unsigned int kib, size_t pages);

/* The `set` of parameters that are read-only. */
struct kernel_param;
int lg_read_only_set(const char *value, const struct kernel_param *kp);

int lg_cpu_init(void);
void lg_cpu_exit(void);
int lg_device_init(void);
void lg_device_exit(void);
void lg_recording_init(void);
void lg_recording_exit(void);
void lg_views_init(void);
void lg_views_exit(void);
/* For /sys/module/lg/parameters/switcher: where the area is and how it got there. */
int lg_area_describe(char *to, size_t size);
extern unsigned int lg_max_guests;
/* Counts for /sys/module/lg/parameters. */
extern atomic_t lg_tables, lg_frames_known, lg_frames_gone, lg_frames_retried, lg_memory;

#endif
