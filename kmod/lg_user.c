// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guests of one user may take together, so that no user takes what is for all.
 *
 *   guests_per_user rw  how many guests a user may have
 *   user_kib        rw  how much of the host's memory all guests of a user may take for their page tables, strategies,
 *                       tables of frames and recordings
 *
 * A guest counts to the user who has opened /dev/lguest for it, by the real user ID, as processes do for RLIMIT_NPROC. It is
 * not that of the process that makes the guest: an open file can be passed on, by a user to whom it makes no difference then,
 * or to a program with more rights than his (as its standard output, say), to which the guest must not count. Who opens
 * files for others, as root does for `lguest --user`, answers for them. Whoever is in a user namespace has been given user
 * IDs there to choose from; so the owner of the outermost one counts.
 *
 * CAP_SYS_RESOURCE, which raises the kernel's other limits as well, is looked for at the same time, and what is
 * opened with it has no limit. It counts apart, and so takes nothing of what the same user has without.
 *
 * Eventfds need no limit of a user's: a guest can have 64 of them (src/device.rs), and what has no guest has none.
 */
#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/ratelimit.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>

#include "lg_shim.h"

static unsigned int lg_guests_per_user;
module_param_named(guests_per_user, lg_guests_per_user, uint, 0644);
MODULE_PARM_DESC(guests_per_user, "how many guests a user without CAP_SYS_RESOURCE may have (default 0: a quarter of max_guests)");

static unsigned int lg_user_kib;
module_param_named(user_kib, lg_user_kib, uint, 0644);
MODULE_PARM_DESC(user_kib, "KiB of the host's memory that all guests of a user without CAP_SYS_RESOURCE may take (default 0: an eighth of low memory)");

struct lg_user {
	/* Guarded by `users_lock`. */
	struct list_head among;
	refcount_t references;
	kuid_t uid;
	bool unlimited;
	/* Guards what follows. Taken by tasks only, and nothing is taken within it. */
	spinlock_t lock;
	unsigned int guests;
	size_t bytes;
};

/* All who have a file open, or a recording that somebody still reads. The lock is taken by tasks only. */
static LIST_HEAD(users);
static DEFINE_SPINLOCK(users_lock);

/* ---------------------------------------------------------------- who */

/* The user who answers for a file. */
static kuid_t opener(const struct file *file)
{
	const struct user_namespace *ns = file->f_cred->user_ns;
	kuid_t uid = file->f_cred->uid;

	for (; ns != &init_user_ns; ns = ns->parent)
		uid = ns->owner;
	return uid;
}

struct lg_user *lg_user_of(const struct file *file)
{
	struct lg_user *user, *fresh = lg_should_fail() ? NULL : kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);

	if (!fresh)
		return NULL;
	fresh->uid = opener(file);
	fresh->unlimited = file_ns_capable(file, &init_user_ns, CAP_SYS_RESOURCE);
	refcount_set(&fresh->references, 1);
	spin_lock_init(&fresh->lock);

	spin_lock(&users_lock);
	list_for_each_entry(user, &users, among) {
		if (uid_eq(user->uid, fresh->uid) && user->unlimited == fresh->unlimited) {
			refcount_inc(&user->references);
			spin_unlock(&users_lock);
			kfree(fresh);
			return user;
		}
	}
	list_add(&fresh->among, &users);
	spin_unlock(&users_lock);
	atomic_inc(&lg_memory);
	return fresh;
}

asmlinkage struct lg_user *lg_user_get(struct lg_user *user)
{
	refcount_inc(&user->references);
	return user;
}

asmlinkage void lg_user_put(struct lg_user *user)
{
	if (!refcount_dec_and_lock(&user->references, &users_lock))
		return;
	list_del(&user->among);
	spin_unlock(&users_lock);
	WARN_ON(user->guests || user->bytes);
	kfree(user);
	atomic_dec(&lg_memory);
}

/* ---------------------------------------------------------------- guests and memory */

asmlinkage bool lg_user_add_guest(struct lg_user *user)
{
	unsigned int most = READ_ONCE(lg_guests_per_user) ?: DIV_ROUND_UP(lg_max_guests, 4);
	bool fits;

	spin_lock(&user->lock);
	fits = user->unlimited || user->guests < most;
	user->guests += fits;
	spin_unlock(&user->lock);
	return fits;
}

asmlinkage void lg_user_remove_guest(struct lg_user *user)
{
	spin_lock(&user->lock);
	user->guests--;
	spin_unlock(&user->lock);
}

/*
 * Without a limit from the administrator, an eighth of low memory: all that is counted can only be there, together with
 * nearly all other memory of the kernel's. Several users at their limits leave the kernel enough of it.
 */
static size_t limit(void)
{
	return lg_limit(READ_ONCE(lg_user_kib), (totalram_pages() - totalhigh_pages()) / 8);
}

asmlinkage bool lg_user_charge(struct lg_user *user, u32 bytes)
{
	size_t most = limit();
	bool fits;

	spin_lock(&user->lock);
	/* The limit may have been lowered below what is there. */
	fits = user->unlimited || (user->bytes <= most && bytes <= most - user->bytes);
	if (fits)
		user->bytes += bytes;
	spin_unlock(&user->lock);
	return fits;
}

asmlinkage void lg_user_uncharge(struct lg_user *user, u32 bytes)
{
	spin_lock(&user->lock);
	user->bytes -= bytes;
	spin_unlock(&user->lock);
}

/* ---------------------------------------------------------------- lines of the log */

/*
 * How many lines each user may have brought about lately. It outlives the user's files, or who closes them and opens another
 * would have a new allowance. Where more users than there are places for do so, the one who has been quiet for longest has.
 */
static struct {
	kuid_t uid;
	/* When it was used last; 0 for never. */
	u64 used;
	struct ratelimit_state limit;
} lines[32];
static DEFINE_SPINLOCK(lines_lock);

asmlinkage bool lg_log_for_user(const struct lg_user *user)
{
	char name[24];
	bool may;
	int i, mine = 0;

	snprintf(name, sizeof(name), "lg: user %u", from_kuid(&init_user_ns, user->uid));
	spin_lock(&lines_lock);
	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		if (lines[i].used && uid_eq(lines[i].uid, user->uid)) {
			mine = i;
			break;
		}
		if (lines[i].used < lines[mine].used)
			mine = i;
	}
	if (i == ARRAY_SIZE(lines)) {
		lines[mine].uid = user->uid;
		ratelimit_state_init(&lines[mine].limit, 5 * HZ, 10);
	}
	lines[mine].used = get_jiffies_64();
	/* Reports how many were left out, with the name. */
	may = ___ratelimit(&lines[mine].limit, name);
	spin_unlock(&lines_lock);
	return may;
}
