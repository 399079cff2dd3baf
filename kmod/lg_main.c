// SPDX-License-Identifier: GPL-2.0-only
/*
 * lg.ko: load, unload, and the parameters under /sys/module/lg/parameters.
 *
 *   strategy     rw  the paging strategy of guests that do not choose one: name[:parameter=value,...]
 *   seed         r   where everything random begins; every guest begins there, so that runs repeat
 *   audit        rw  after how many operations the shadow tables of guests started from then on are audited
 *   reflect      rw  whether the Switcher reflects page faults by itself in guests started from then on
 *   switch       rw  whether the Switcher does the hypercalls of a switch to another process by itself, likewise
 *   fill         rw  whether the Switcher fills missing entries of their shadow tables by itself, likewise
 *   ahead        rw  whether pages of guests' memory are brought in before they are touched, where one is touched after the other
 *   max_guests   r   how many guests there is room for
 *   guests_per_user user_kib rw  what the guests of one user may take (lg_user.c)
 *   recording_kib rw  how much of a guest's recording is kept until it is read (lg_recording.c)
 *   paging_kib   rw  how much memory a guest's page tables and strategy may take (lg_plugin.c)
 *   strategies   r   what can be chosen
 *   paging       r   the page format of this kernel, hence of its guests
 *   switcher     r   where the Switcher lies, and which way it got there
 *   guests tables frames r   what exists now: all zero when no guest does
 *   memory       r   pieces of kernel memory held: one when no file is open
 *   fail_allocation allocations   for tests (lg_fail.c)
 */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/build_bug.h>
#include <linux/cache.h>
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>
#include <asm/pgtable_types.h>

#include "lg_compat.h"
#include "lg_shim.h"

/* The kernel's numbers, as Rust has them (src/shared.rs). */
static_assert(LG_PAGE_SIZE == PAGE_SIZE);
static_assert(LG_EPERM == EPERM);
static_assert(LG_ENOENT == ENOENT);
static_assert(LG_EINTR == EINTR);
static_assert(LG_EBADF == EBADF);
static_assert(LG_ENOMEM == ENOMEM);
static_assert(LG_EFAULT == EFAULT);
static_assert(LG_EBUSY == EBUSY);
static_assert(LG_EINVAL == EINVAL);
static_assert(LG_EMFILE == EMFILE);
static_assert(LG_EFBIG == EFBIG);
static_assert(LG_ENOSPC == ENOSPC);
static_assert(LG_ERANGE == ERANGE);
static_assert(LG_EOVERFLOW == EOVERFLOW);
static_assert(LG_EDQUOT == EDQUOT);
static_assert(LG_ERESTART == ERESTART);
static_assert(LG_ERESTARTSYS == ERESTARTSYS);

#define LG_LEVELS (IS_ENABLED(CONFIG_X86_PAE) ? 3 : 2)

/* ---------------------------------------------------------------- parameters */

static char lg_strategy[LG_STRATEGY_MAX + 1] = "lguest";

static int strategy_set(const char *value, const struct kernel_param *kp)
{
	/* What `echo` writes ends with a newline. */
	const char *end = strchrnul(value, '\n');
	size_t length = end - value;
	int error;

	if (length > LG_STRATEGY_MAX) {
		pr_err("lg: the strategy is described in %zu bytes, at most %d are taken\n", length, LG_STRATEGY_MAX);
		return -EINVAL;
	}
	error = lg_rust_check_strategy(value, length, LG_LEVELS);
	if (error)
		return error;
	memcpy(lg_strategy, value, length);
	lg_strategy[length] = '\0';
	return 0;
}

static int strategy_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%s\n", lg_strategy);
}

static const struct kernel_param_ops strategy_ops = { .set = strategy_set, .get = strategy_get };
module_param_cb(strategy, &strategy_ops, NULL, 0644);
MODULE_PARM_DESC(strategy, "paging strategy of guests that do not choose one: name[:parameter=value,...]");

static unsigned long long lg_seed;
static bool lg_seed_given;

static int seed_set(const char *value, const struct kernel_param *kp)
{
	lg_seed_given = true;
	return param_set_ullong(value, kp);
}

static const struct kernel_param_ops seed_ops = { .set = seed_set, .get = param_get_ullong };
module_param_cb(seed, &seed_ops, &lg_seed, 0444);
MODULE_PARM_DESC(seed, "where everything random begins (default: random, see the log)");

static unsigned int lg_audit;
module_param_named(audit, lg_audit, uint, 0644);
MODULE_PARM_DESC(audit, "hold shadow tables against guests' after every so many operations (default 0: never)");

static bool lg_reflect_allowed = true;
module_param_named(reflect, lg_reflect_allowed, bool, 0644);
MODULE_PARM_DESC(reflect, "reflect page faults to the guest's kernel without leaving the guest (default on)");

static bool lg_switch_allowed = true;
module_param_named(switch, lg_switch_allowed, bool, 0644);
MODULE_PARM_DESC(switch, "switch between a guest's shadowed page directories without leaving the guest (default on)");

static bool lg_fill_allowed = true;
module_param_named(fill, lg_fill_allowed, bool, 0644);
MODULE_PARM_DESC(fill, "fill entries that a guest misses without leaving it (default on; needs reflect)");

bool lg_ahead_allowed = true;
module_param_named(ahead, lg_ahead_allowed, bool, 0644);
MODULE_PARM_DESC(ahead, "bring in pages of a guest's memory before it touches them, where it touches one after the other (default on)");

unsigned int lg_max_guests = 32;
module_param_named(max_guests, lg_max_guests, uint, 0444);
MODULE_PARM_DESC(max_guests, "how many guests there is room for, 1 to " __stringify(LG_MAX_GUESTS) " (default 32)");

int lg_read_only_set(const char *value, const struct kernel_param *kp)
{
	pr_err("lg: parameter %s can only be read\n", kp->name);
	return -EPERM;
}

static int strategies_get(char *buffer, const struct kernel_param *kp)
{
	/* What is as long as a page, sysfs takes for an error. */
	return lg_rust_strategies(buffer, PAGE_SIZE - 1);
}

static const struct kernel_param_ops strategies_ops = { .set = lg_read_only_set, .get = strategies_get };
module_param_cb(strategies, &strategies_ops, NULL, 0444);
MODULE_PARM_DESC(strategies, "read-only: what can be chosen");

static int paging_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%s\n", LG_LEVELS == 3 ? "PAE" : "2-level");
}

static const struct kernel_param_ops paging_ops = { .set = lg_read_only_set, .get = paging_get };
module_param_cb(paging, &paging_ops, NULL, 0444);
MODULE_PARM_DESC(paging, "read-only: the page format");

static int switcher_get(char *buffer, const struct kernel_param *kp)
{
	return lg_area_describe(buffer, PAGE_SIZE);
}

static const struct kernel_param_ops switcher_ops = { .set = lg_read_only_set, .get = switcher_get };
/* Not for everybody: where the host's kernel has put something is nobody's business. */
module_param_cb(switcher, &switcher_ops, NULL, 0400);
MODULE_PARM_DESC(switcher, "read-only: where the Switcher lies");

static int count_get(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%d\n", atomic_read((atomic_t *)kp->arg));
}

static const struct kernel_param_ops count_ops = { .set = lg_read_only_set, .get = count_get };
static atomic_t lg_guests = ATOMIC_INIT(0), lg_forgotten = ATOMIC_INIT(0);
atomic_t lg_tables = ATOMIC_INIT(0), lg_memory = ATOMIC_INIT(0);
atomic_t lg_frames_known = ATOMIC_INIT(0), lg_frames_gone = ATOMIC_INIT(0), lg_frames_retried = ATOMIC_INIT(0);
module_param_cb(guests, &count_ops, &lg_guests, 0444);
MODULE_PARM_DESC(guests, "read-only: guests that exist");
module_param_cb(forgotten, &count_ops, &lg_forgotten, 0444);
MODULE_PARM_DESC(forgotten, "read-only: pages that strategies held at their guests' ends, and the host took back");
module_param_cb(tables, &count_ops, &lg_tables, 0444);
MODULE_PARM_DESC(tables, "read-only: pages that hold page tables of guests");
module_param_cb(frames, &count_ops, &lg_frames_known, 0444);
MODULE_PARM_DESC(frames, "read-only: pages of guests whose frames are known");
module_param_cb(frames_gone, &count_ops, &lg_frames_gone, 0444);
MODULE_PARM_DESC(frames_gone, "read-only: how often a known frame went: swapped out, moved, merged, unmapped, or with its launcher");
module_param_cb(frames_retried, &count_ops, &lg_frames_retried, 0444);
MODULE_PARM_DESC(frames_retried, "read-only: how often a frame went while it was looked for");
module_param_cb(memory, &count_ops, &lg_memory, 0444);
MODULE_PARM_DESC(memory, "read-only: pieces of kernel memory held, those of tables apart; the module itself holds one");

asmlinkage u32 lg_default_strategy(char *to, u32 size)
{
	u32 length;

	kernel_param_lock(THIS_MODULE);
	length = min_t(u32, size, strlen(lg_strategy));
	memcpy(to, lg_strategy, length);
	kernel_param_unlock(THIS_MODULE);
	return length;
}

asmlinkage u32 lg_audit_every(void)
{
	return READ_ONCE(lg_audit);
}

/*
 * Where the host is a guest of KVM itself, a page fault may be KVM's word to the host that a page is on its way, which only
 * the host can tell from the guest's own.
 */
static bool faults_are_guests(void)
{
	u32 async, high;

	return !kvm_para_available() || rdmsr_safe(MSR_KVM_ASYNC_PF_EN, &async, &high) || !(async & KVM_ASYNC_PF_ENABLED);
}

asmlinkage bool lg_reflect(void)
{
	return READ_ONCE(lg_reflect_allowed) && faults_are_guests();
}

asmlinkage bool lg_switch(void)
{
	return READ_ONCE(lg_switch_allowed) && faults_are_guests();
}

asmlinkage bool lg_fill(void)
{
	return READ_ONCE(lg_fill_allowed) && faults_are_guests();
}

asmlinkage void lg_count_guests(int change)
{
	atomic_add(change, &lg_guests);
}

asmlinkage void lg_count_forgotten(u32 pages)
{
	atomic_add(pages, &lg_forgotten);
}

/* ---------------------------------------------------------------- what Rust finds in every program */

/* The Rust compiler makes calls to these names' originals, in its own calling convention. */
asmlinkage void *lg_shim_memcpy(void *to, const void *from, size_t n);
asmlinkage void *lg_shim_memmove(void *to, const void *from, size_t n);
asmlinkage void *lg_shim_memset(void *to, int byte, size_t n);
asmlinkage int lg_shim_memcmp(const void *a, const void *b, size_t n);

asmlinkage void *lg_shim_memcpy(void *to, const void *from, size_t n)
{
	return memcpy(to, from, n);
}

asmlinkage void *lg_shim_memmove(void *to, const void *from, size_t n)
{
	return memmove(to, from, n);
}

asmlinkage void *lg_shim_memset(void *to, int byte, size_t n)
{
	return memset(to, byte, n);
}

asmlinkage int lg_shim_memcmp(const void *a, const void *b, size_t n)
{
	return memcmp(a, b, n);
}

asmlinkage void lg_log_error(const char *text, u32 length)
{
	pr_err("lg: %.*s\n", (int)length, text);
}

asmlinkage void lg_bug(const char *text, u32 length)
{
	pr_emerg("lg: %.*s\n", (int)length, text);
	BUG();
}

asmlinkage struct mutex *lg_mutex_create(bool inner)
{
	struct mutex *mutex = lg_should_fail() ? NULL : kmalloc(sizeof(*mutex), GFP_KERNEL_ACCOUNT);

	if (mutex) {
		/* mutex_init() makes one class of locks, for lockdep, of all that it initialises in one place. */
		if (inner)
			mutex_init(mutex);
		else
			mutex_init(mutex);
		atomic_inc(&lg_memory);
	}
	return mutex;
}

asmlinkage void lg_mutex_destroy(struct mutex *mutex)
{
	mutex_destroy(mutex);
	kfree(mutex);
	atomic_dec(&lg_memory);
}

asmlinkage bool lg_mutex_lock(struct mutex *mutex)
{
	return mutex_lock_killable(mutex) == 0;
}

asmlinkage bool lg_mutex_try_lock(struct mutex *mutex)
{
	return mutex_trylock(mutex);
}

asmlinkage void lg_mutex_unlock(struct mutex *mutex)
{
	mutex_unlock(mutex);
}

/* ---------------------------------------------------------------- load and unload */

static bool no_execute(void)
{
#ifdef CONFIG_X86_PAE
	return __supported_pte_mask & _PAGE_NX;
#else
	return false;
#endif
}

static int __init lg_init(void)
{
	int error;

	if (lg_max_guests < 1 || lg_max_guests > LG_MAX_GUESTS) {
		pr_err("lg: max_guests=%u: there can be 1 to %d\n", lg_max_guests, LG_MAX_GUESTS);
		return -EINVAL;
	}
	if (!LG_WAITS_FOR_PAGES_OF_HOST && !faults_are_guests()) {
		pr_err("lg: under KVM, this kernel's asynchronous page faults are for Linux's own modules; boot it with no-kvmapf\n");
		return -EOPNOTSUPP;
	}
	if (!lg_seed_given)
		lg_seed = get_random_u64();

	error = lg_rust_init(LG_LEVELS, no_execute(), lg_max_guests, lg_seed, lg_seed >> 32);
	if (error)
		return error;
	error = lg_cpu_init();
	if (error)
		goto exit_rust;
	lg_views_init();
	lg_recording_init();
	error = lg_device_init();
	if (error)
		goto exit_recording;
	pr_info("lg: strategy=%s seed=%llu\n", lg_strategy, lg_seed);
	return 0;

exit_recording:
	lg_recording_exit();
	lg_views_exit();
	lg_cpu_exit();
exit_rust:
	lg_rust_exit();
	return error;
}

static void __exit lg_exit(void)
{
	lg_device_exit();
	lg_recording_exit();
	lg_views_exit();
	lg_cpu_exit();
	lg_rust_exit();
}

module_init(lg_init);
module_exit(lg_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("lguest: paravirtual guests with pluggable shadow paging");
