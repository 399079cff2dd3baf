/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything in which the supported versions of Linux (6.1 and 6.12) differ
 * for this port.
 */
#ifndef _ASM_X86_LGUEST_VERSIONS_H
#define _ASM_X86_LGUEST_VERSIONS_H

#include <linux/version.h>

/* Since 6.3, halting goes by pv_ops, which asm/paravirt.h declares. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define LGUEST_HALT_IN_PV_OPS
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
