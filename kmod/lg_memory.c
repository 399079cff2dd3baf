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

/* `unroll` is of the loop. */
#define LG_COPY_FROM_USER(name, unroll)						\
	static __always_inline bool name(u32 *to, const u32 __user *user, u32 words)	\
	{									\
		u32 i;								\
										\
		__uaccess_begin_nospec();					\
		unroll								\
		for (i = 0; i < words; i++)					\
			unsafe_get_user(to[i], user + i, fault);		\
		user_access_end();						\
		return true;							\
	fault:									\
		user_access_end();						\
		return false;							\
	}

LG_COPY_FROM_USER(copy_words_from_user, )
/* For an entry of the ring of hypercalls and the descriptors of LOAD_TLS, the copies that are made most often. */
LG_COPY_FROM_USER(copy_few_words_from_user, _Pragma("GCC unroll 8"))

asmlinkage bool lg_copy_from_user(void *to, unsigned long user, u32 size)
{
	if (size == LG_HYPERCALL_SIZE)
		return copy_few_words_from_user(to, (const u32 __user *)user, LG_HYPERCALL_SIZE / sizeof(u32));
	if (size == LG_TLS_SIZE)
		return copy_few_words_from_user(to, (const u32 __user *)user, LG_TLS_SIZE / sizeof(u32));
	if (size <= LG_SMALL_COPY && !(size % sizeof(u32)))
		return copy_words_from_user(to, (const u32 __user *)user, size / sizeof(u32));
	return __copy_from_user(to, (void __user *)user, size) == 0;
}

/*
 * Single values of the sizes that are on the path of every hypercall and fault, done in place. (The checks and
 * calls of the kernel's general copy cost more than a null hypercall has instructions to spare.)
 */
#define LG_GET_USER(name, type)						\
	asmlinkage bool name(type *to, unsigned long user)		\
	{								\
		__uaccess_begin_nospec();				\
		unsafe_get_user(*to, (type __user *)user, fault);	\
		user_access_end();					\
		return true;						\
	fault:								\
		user_access_end();					\
		return false;						\
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

/* Each hypercall first checks with it whether the ring of hypercalls is empty, so it is the shortest of all. */
asmlinkage int lg_get_user_8(unsigned long user)
{
	u8 byte;

	__uaccess_begin_nospec();
	unsafe_get_user(byte, (u8 __user *)user, fault);
	user_access_end();
	return byte;
fault:
	user_access_end();
	return -EFAULT;
}

LG_GET_USER(lg_get_user_32, u32)
LG_GET_USER(lg_get_user_64, u64)
LG_PUT_USER(lg_put_user_8, u8)
LG_PUT_USER(lg_put_user_32, u32)

asmlinkage bool lg_copy_to_user(unsigned long user, const void *from, u32 size)
{
	return __copy_to_user((void __user *)user, from, size) == 0;
}
