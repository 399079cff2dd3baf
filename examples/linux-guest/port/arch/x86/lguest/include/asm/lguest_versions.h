/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything in which the supported versions of Linux (6.1, 6.12 and 7.3)
 * differ for this port.
 */
#ifndef _ASM_X86_LGUEST_VERSIONS_H
#define _ASM_X86_LGUEST_VERSIONS_H

#include <linux/version.h>

/* Since 6.3, halting goes by pv_ops, which asm/paravirt.h declares. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define LGUEST_HALT_IN_PV_OPS
#endif

/*
 * What has changed between 6.12 and 7.3:
 *
 * - asm/irqflags.h includes asm/paravirt.h for halting;
 * - functions for model-specific registers are called after the 64 bits that
 *   they move (wrmsrq), and the read that can fail returns its error;
 * - the entry point has no section of its own (__HEAD) any more;
 * - one feature stands for both fast system calls of 32-bit programs;
 * - whether I/O needs delays is a word, and no function of pv_ops.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#define LGUEST_PARAVIRT_IN_IRQFLAGS
#define LGUEST_MSR_Q
#define LGUEST_ENTRY_SECTION	__INIT
#define LGUEST_FAST_SYSCALLS	X86_FEATURE_SYSFAST32
#else
#define LGUEST_ENTRY_SECTION	__HEAD
#define LGUEST_FAST_SYSCALLS	X86_FEATURE_SYSENTER32, X86_FEATURE_SYSCALL32
#define LGUEST_IO_DELAY_IN_PV_OPS
#endif

#ifndef __ASSEMBLY__

/*
 * Until 6.10, a virtio transport got what it has to know about each virtqueue
 * in separate arrays.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
#define LGUEST_VQS_INFO							\
	vq_callback_t *callbacks[], const char *const names[],		\
	const bool *ctx
#define lguest_vq_callback(i)	(callbacks[i])
#define lguest_vq_name(i)	(names[i])
#define lguest_vq_ctx(i)	(ctx ? ctx[i] : false)
#else
#define LGUEST_VQS_INFO		struct virtqueue_info vqs_info[]
#define lguest_vq_callback(i)	(vqs_info[i].callback)
#define lguest_vq_name(i)	(vqs_info[i].name)
#define lguest_vq_ctx(i)	(vqs_info[i].ctx)
#endif

#endif /* __ASSEMBLY__ */
#endif /* _ASM_X86_LGUEST_VERSIONS_H */
