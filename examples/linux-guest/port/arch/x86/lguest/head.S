/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's entry point under lguest: takes the place of startup_32 in
 * Linux's head_32.S.
 *
 * The host starts a guest in ring 1 with flat segments, no stack and every
 * address meaning itself. Boot parameters are at physical 0. What startup_32
 * does besides (descriptor tables, processor features, paging) is not for a
 * guest to do, or requested of the host.
 */
#include <linux/elfnote.h>
#include <linux/init.h>
#include <linux/linkage.h>
#include <asm/asm-offsets.h>
#include <asm/bootparam.h>
#include <asm/lguest.h>
#include <asm/lguest_versions.h>
#include <asm/page_types.h>
#include <asm/segment.h>
#include <asm/setup.h>

#define pa(x)	((x) - __PAGE_OFFSET)

LGUEST_ENTRY_SECTION
SYM_CODE_START(lguest_entry)
	cld
	movl	pa(initial_stack), %esp
	subl	$__PAGE_OFFSET, %esp

	/* The launcher's memory is zero, but a restarted kernel's may not be. */
	xorl	%eax, %eax
	movl	$pa(__bss_start), %edi
	movl	$pa(__bss_stop), %ecx
	subl	%edi, %ecx
	shrl	$2, %ecx
	rep stosl

	/* Boot parameters and command line, to where Linux looks for them. */
	xorl	%esi, %esi
	movl	$pa(boot_params), %edi
	movl	$(PARAM_SIZE / 4), %ecx
	rep movsl
	movl	pa(boot_params) + NEW_CL_POINTER, %esi
	testl	%esi, %esi
	jz	1f
	movl	$pa(boot_command_line), %edi
	movl	$(COMMAND_LINE_SIZE / 4), %ecx
	rep movsl
1:
	/* The host reads most of lguest_data now: see hypercall.c. */
	movl	$LHCALL_LGUEST_INIT, %eax
	movl	$pa(lguest_data), %ebx
	int	$LGUEST_TRAP_ENTRY

	/*
	 * Low memory at 0 and at PAGE_OFFSET. Bare Linux has a table for its fixmap
	 * besides, at the top, which is the host's here: reserve_top_address() moves
	 * the fixmap.
	 */
	call	mk_early_pgtbl_32
	movl	$LHCALL_NEW_PGTABLE, %eax
	movl	$pa(initial_page_table), %ebx
	int	$LGUEST_TRAP_ENTRY

	/* Up, to the addresses that the kernel is linked at. */
	addl	$__PAGE_OFFSET, %esp
	movl	$1f, %eax
	jmp	*%eax
1:	call	lguest_start_kernel
	ud2
SYM_CODE_END(lguest_entry)

/* For the launcher: the levels of our page tables (LGUEST_NOTE_PAGING). */
#ifdef CONFIG_X86_PAE
	ELFNOTE(lguest, LGUEST_NOTE_PAGING, .long LGUEST_NOTE_PAGING_PAE)
#else
	ELFNOTE(lguest, LGUEST_NOTE_PAGING, .long LGUEST_NOTE_PAGING_2_LEVEL)
#endif

/* The launcher expects a physical address. */
	.globl	lguest_entry_phys
	.set	lguest_entry_phys, pa(lguest_entry)
