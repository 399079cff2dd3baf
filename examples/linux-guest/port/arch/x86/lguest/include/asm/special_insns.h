/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Goes over Linux's asm/special_insns.h: control registers and caches.
 *
 * The control registers are the host's. Linux reads back what it writes to
 * them, so cr0 and cr4 are remembered and otherwise mean nothing; cr3 is a
 * hypercall; cr2 is in lguest_data. Nobody needs the caches written back.
 */
#ifndef _ASM_X86_LGUEST_SPECIAL_INSNS_H
#define _ASM_X86_LGUEST_SPECIAL_INSNS_H

#include_next <asm/special_insns.h>
#include <asm/lguest.h>

/* mmu.c */
extern unsigned long lguest_cr0, lguest_cr3, lguest_cr4;
unsigned long lguest_read_cr2(void);
void lguest_write_cr3(unsigned long cr3);

#define native_read_cr0()	(lguest_cr0)
#define read_cr0()		(lguest_cr0)
#define write_cr0(x)		((void)(lguest_cr0 = (x)))
#define native_read_cr2()	lguest_read_cr2()
#define read_cr2()		lguest_read_cr2()
#define native_write_cr2(x)	((void)(lguest_data.cr2 = (x)))
#define write_cr2(x)		((void)(lguest_data.cr2 = (x)))
#define __native_read_cr3()	(lguest_cr3)
#define __read_cr3()		(lguest_cr3)
#define native_write_cr3(x)	lguest_write_cr3(x)
#define write_cr3(x)		lguest_write_cr3(x)
#define native_read_cr4()	(lguest_cr4)
#define __read_cr4()		(lguest_cr4)
#define __write_cr4(x)		((void)(lguest_cr4 = (x)))
#define native_wbinvd()		barrier()
#define wbinvd()		barrier()
#define wbnoinvd()		barrier()

#endif /* _ASM_X86_LGUEST_SPECIAL_INSNS_H */
