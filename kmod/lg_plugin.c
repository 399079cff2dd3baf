// SPDX-License-Identifier: GPL-2.0-only
/*
 * What plug-in code, a guest's strategy and policy, may do wrong, and what becomes of it.
 *
 *   paging_kib   rw  how much of the host's memory a guest's page tables and strategy may take
 *
 * Panics: unwinding is not there in the kernel. So lg_plugin_guard() saves where the stack is before it calls what calls
 * plug-in code (lg_plugin_call.S), and a panic in plug-in code goes back there. All frames in between are of safe Rust and
 * hold nothing of the kernel's: C's calls for plug-in code have returned by then. framework/src/guarded.rs explains why
 * Rust can live with it.
 *
 * Memory: every piece that plug-in code allocates is on a list of its guest's until it is freed, so that what a plug-in
 * leaves behind can be freed at the guest's end. All pieces and table pages of a guest have one limit, and count to its
 * user's as well (lg_user.c), in steps. A list is used only by who has the guest's session, one task at a time.
 */
#include <linux/atomic.h>
#include <linux/build_bug.h>
#include <linux/hashtable.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "lg_shim.h"

static unsigned int lg_paging_kib;
module_param_named(paging_kib, lg_paging_kib, uint, 0644);
MODULE_PARM_DESC(paging_kib, "KiB of the host's memory for a guest's page tables and strategy (default 0: 1 MiB and a sixteenth of the guest's)");

struct lg_plugin {
	/* Whether plug-in code is at work; for Rust as well. */
	u32 state;
	/* Who is in lg_plugin_guard(), and where its stack was. */
	struct task_struct *task;
	struct hlist_node guarded;
	void *stack;
	/* The panic's words. */
	u32 length;
	char words[LG_LINE];
	/* What it has allocated, and how many bytes that and its tables are. */
	struct list_head pieces;
	size_t held, limit;
	/* Its user, and how many bytes of the user's are for it, including what it does not hold yet. */
	struct lg_user *user;
	size_t reserved;
	bool at_user_limit;
};

/* By how many bytes `reserved` grows: table pages come and go without a look at the user. */
#define LG_STEP (64 << 10)

/* Rust's RawPlugin. */
static_assert(offsetof(struct lg_plugin, state) == LG_PLUGIN_STATE);

/* Before each piece of memory that Rust allocates. */
struct lg_piece {
	struct list_head among;
	/* Whose list that is, or NULL. */
	struct lg_plugin *owner;
	/* Bytes from the first one of the allocation, and how many of them come before the memory itself. */
	u32 size, before;
};

/* Those who are in lg_plugin_guard(), by their tasks, who alone look for themselves: never from an interrupt. */
static DEFINE_HASHTABLE(guarded, 5);
static DEFINE_SPINLOCK(guarded_lock);

/* A small process has some ten tables: by default there is room for those of 25, and for more the larger the guest is. */
static size_t limit(u32 guest_pages)
{
	return lg_limit(READ_ONCE(lg_paging_kib), 256 + (size_t)guest_pages / 16);
}

asmlinkage struct lg_plugin *lg_plugin_create(struct lg_user *user, u32 guest_pages)
{
	struct lg_plugin *plugin = lg_should_fail() ? NULL : kzalloc(sizeof(*plugin), GFP_KERNEL_ACCOUNT);

	if (!plugin)
		return NULL;
	INIT_LIST_HEAD(&plugin->pieces);
	plugin->limit = limit(guest_pages);
	plugin->user = user;
	atomic_inc(&lg_memory);
	return plugin;
}

asmlinkage void lg_plugin_destroy(struct lg_plugin *plugin)
{
	WARN_ON(!list_empty(&plugin->pieces));
	lg_user_uncharge(plugin->user, plugin->reserved);
	kfree(plugin);
	atomic_dec(&lg_memory);
}

/* ---------------------------------------------------------------- panics */

/* lg_plugin_call.S. The first returns false when `call` has, true when the second came instead. */
asmlinkage bool lg_plugin_call(void (*call)(void *), void *data, void **stack);
asmlinkage void lg_plugin_return(void *stack) __noreturn;

asmlinkage bool lg_plugin_guard(struct lg_plugin *plugin, void (*call)(void *), void *data)
{
	bool panicked;

	plugin->task = current;
	spin_lock(&guarded_lock);
	hash_add(guarded, &plugin->guarded, (unsigned long)current);
	spin_unlock(&guarded_lock);

	panicked = lg_plugin_call(call, data, &plugin->stack);

	spin_lock(&guarded_lock);
	hash_del(&plugin->guarded);
	spin_unlock(&guarded_lock);
	plugin->state = LG_PLUGIN_OUTSIDE;
	return !panicked;
}

asmlinkage struct lg_plugin *lg_plugin_at_work(void)
{
	struct lg_plugin *plugin;

	spin_lock(&guarded_lock);
	hash_for_each_possible(guarded, plugin, guarded, (unsigned long)current)
		if (plugin->task == current)
			break;
	spin_unlock(&guarded_lock);
	return plugin && plugin->state != LG_PLUGIN_OUTSIDE ? plugin : NULL;
}

asmlinkage void lg_plugin_panicked(struct lg_plugin *plugin, const char *words, u32 length)
{
	plugin->length = min_t(u32, length, LG_LINE);
	memcpy(plugin->words, words, plugin->length);
	lg_plugin_return(plugin->stack);
}

asmlinkage const char *lg_plugin_words(const struct lg_plugin *plugin, u32 *length)
{
	*length = plugin->length;
	return plugin->words;
}

/* ---------------------------------------------------------------- memory */

bool lg_plugin_charge_user(struct lg_plugin *plugin, u32 size)
{
	plugin->at_user_limit = !lg_user_charge(plugin->user, size);
	return !plugin->at_user_limit;
}

/* Takes more of what the user may have: a step, if there is one, so that this is rare; else what is missing. */
static noinline bool reserve(struct lg_plugin *plugin, size_t held)
{
	u32 missing = held - plugin->reserved;
	u32 step = max_t(u32, missing, LG_STEP);

	if (!lg_plugin_charge_user(plugin, step)) {
		step = missing;
		if (!lg_plugin_charge_user(plugin, step))
			return false;
	}
	plugin->reserved += step;
	return true;
}

/* Gives back what is not held, but for a step. */
static noinline void give_back(struct lg_plugin *plugin)
{
	size_t more = plugin->reserved - plugin->held - LG_STEP;

	lg_user_uncharge(plugin->user, more);
	plugin->reserved -= more;
}

asmlinkage bool lg_plugin_charge(struct lg_plugin *plugin, u32 size)
{
	if (size > plugin->limit - plugin->held) {
		plugin->at_user_limit = false;
		return false;
	}
	if (unlikely(size > plugin->reserved - plugin->held) && !reserve(plugin, plugin->held + size))
		return false;
	plugin->held += size;
	return true;
}

asmlinkage void lg_plugin_uncharge(struct lg_plugin *plugin, u32 size)
{
	plugin->held -= size;
	if (unlikely(plugin->reserved - plugin->held > 2 * LG_STEP))
		give_back(plugin);
}

struct lg_user *lg_plugin_user(const struct lg_plugin *plugin)
{
	return plugin->user;
}

asmlinkage bool lg_plugin_at_user_limit(const struct lg_plugin *plugin)
{
	return plugin->at_user_limit;
}

/* How many bytes come before a piece of that alignment: its header, at their end. */
static u32 before_piece(u32 align)
{
	return ALIGN(sizeof(struct lg_piece), max_t(u32, align, ARCH_KMALLOC_MINALIGN));
}

asmlinkage void *lg_alloc(u32 size, u32 align)
{
	struct lg_plugin *owner = lg_plugin_at_work();
	struct lg_piece *piece;
	void *memory;
	u32 whole;

	if (check_add_overflow(size, before_piece(align), &whole) || whole > INT_MAX)
		return NULL;
	/* kmalloc() aligns sizes that are powers of two to themselves, others to ARCH_KMALLOC_MINALIGN. */
	if (align > ARCH_KMALLOC_MINALIGN)
		whole = roundup_pow_of_two(whole);
	if (owner && !lg_plugin_charge(owner, whole))
		return NULL;
	memory = lg_should_fail() ? NULL : kvmalloc(whole, GFP_KERNEL_ACCOUNT);
	if (!memory) {
		if (owner)
			lg_plugin_uncharge(owner, whole);
		return NULL;
	}
	atomic_inc(&lg_memory);
	memory += before_piece(align);
	piece = memory - sizeof(*piece);
	piece->owner = owner;
	piece->size = whole;
	piece->before = before_piece(align);
	if (owner)
		list_add(&piece->among, &owner->pieces);
	return memory;
}

asmlinkage void lg_free(void *memory)
{
	struct lg_piece *piece = memory - sizeof(*piece);

	if (piece->owner) {
		list_del(&piece->among);
		lg_plugin_uncharge(piece->owner, piece->size);
	}
	kvfree(memory - piece->before);
	atomic_dec(&lg_memory);
}

asmlinkage void lg_plugin_reclaim(struct lg_plugin *plugin)
{
	struct lg_piece *piece, *next;

	list_for_each_entry_safe(piece, next, &plugin->pieces, among) {
		plugin->held -= piece->size;
		kvfree((void *)(piece + 1) - piece->before);
		atomic_dec(&lg_memory);
		cond_resched();
	}
	INIT_LIST_HEAD(&plugin->pieces);
}
