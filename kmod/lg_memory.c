// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory: pages for tables, and the launcher's. (Rust's own is lg_plugin.c's.)
 *
 * What a guest needs of the kernel's is charged to its launcher's cgroup.
 */
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/uaccess.h>

#include "lg_shim.h"

asmlinkage void *lg_table_alloc(u32 *frame)
{
	/* In low memory: the host reads and writes it where it is always mapped. */
	unsigned long page = lg_should_fail() ? 0 : get_zeroed_page(GFP_KERNEL_ACCOUNT);

	if (!page)
		return NULL;
	atomic_inc(&lg_tables);
	*frame = __pa(page) >> PAGE_SHIFT;
	return (void *)page;
}

asmlinkage u32 lg_direct_map(void)
{
	return PAGE_OFFSET;
}

asmlinkage void lg_table_free(void *page)
{
	free_page((unsigned long)page);
	atomic_dec(&lg_tables);
}

size_t lg_limit(unsigned int kib, size_t pages)
{
	return kib ? (size_t)min_t(u64, (u64)kib << 10, SIZE_MAX) : pages << PAGE_SHIFT;
}

asmlinkage bool lg_user_range_ok(unsigned long user, u32 size)
{
	return access_ok((void __user *)user, size);
}

/* The largest copy that is made word by word in place; as below, for the same reason. */
#define LG_SMALL_COPY 128

static bool is_small(u32 size)
{
	return size <= LG_SMALL_COPY && !(size % sizeof(u32));
}

/* Between __uaccess_begin_nospec() and user_access_end(). A constant number of words is read without a loop. */
static __always_inline bool unsafe_get_words(u32 *to, const u32 __user *user, u32 words)
{
	u32 i;

	_Pragma("GCC unroll 8")
	for (i = 0; i < words; i++)
		unsafe_get_user(to[i], user + i, fault);
	return true;
fault:
	return false;
}

static __always_inline bool get_words(u32 *to, unsigned long user, u32 words)
{
	bool read;

	__uaccess_begin_nospec();
	read = unsafe_get_words(to, (const u32 __user *)user, words);
	user_access_end();
	return read;
}

static bool put_words(unsigned long user, const u32 *from, u32 words)
{
	u32 i;

	__uaccess_begin_nospec();
	for (i = 0; i < words; i++)
		unsafe_put_user(from[i], (u32 __user *)user + i, fault);
	user_access_end();
	return true;
fault:
	user_access_end();
	return false;
}

asmlinkage bool lg_copy_from_user(void *to, unsigned long user, u32 size)
{
	/* The descriptors of LOAD_TLS, which every switch of processes takes with it. */
	if (size == LG_TLS_SIZE)
		return get_words(to, user, LG_TLS_SIZE / sizeof(u32));
	if (is_small(size))
		return get_words(to, user, size / sizeof(u32));
	return __copy_from_user(to, (void __user *)user, size) == 0;
}

asmlinkage bool lg_copy_to_user(unsigned long user, const void *from, u32 size)
{
	if (is_small(size))
		return put_words(user, from, size / sizeof(u32));
	return __copy_to_user((void __user *)user, from, size) == 0;
}

/* Each hypercall first looks at an entry of the ring, which says as a rule that the ring is empty. */
asmlinkage int lg_get_ring_entry(void *call, unsigned long status, unsigned long user)
{
	u8 byte;
	bool read;

	__uaccess_begin_nospec();
	unsafe_get_user(byte, (u8 __user *)status, fault);
	if (likely(byte == LG_RING_DONE)) {
		user_access_end();
		return 0;
	}
	read = unsafe_get_words(call, (const u32 __user *)user, LG_HYPERCALL_SIZE / sizeof(u32));
	user_access_end();
	return read ? 1 : -EFAULT;
fault:
	user_access_end();
	return -EFAULT;
}

/*
 * Single values of the sizes that are on the path of every hypercall and fault, done in place. (The checks and
 * calls of the kernel's general copy cost more than a null hypercall has instructions to spare.)
 */

/* The value, and above it whether it could be read: both in registers. */
asmlinkage u64 lg_get_user_32(unsigned long user)
{
	u32 value;

	__uaccess_begin_nospec();
	unsafe_get_user(value, (u32 __user *)user, fault);
	user_access_end();
	return 1ull << 32 | value;
fault:
	user_access_end();
	return 0;
}

asmlinkage bool lg_get_user_64(u64 *to, unsigned long user)
{
	__uaccess_begin_nospec();
	unsafe_get_user(*to, (u64 __user *)user, fault);
	user_access_end();
	return true;
fault:
	user_access_end();
	return false;
}

#define LG_PUT_USER(name, type)						\
	asmlinkage bool name(unsigned long user, type value)		\
	{								\
		__uaccess_begin_nospec();				\
		unsafe_put_user(value, (type __user *)user, fault);	\
		user_access_end();					\
		return true;						\
	fault:								\
		user_access_end();					\
		return false;						\
	}

LG_PUT_USER(lg_put_user_8, u8)
LG_PUT_USER(lg_put_user_32, u32)
