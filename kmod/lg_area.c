// SPDX-License-Identifier: GPL-2.0-only
/*
 * A place for the Switcher: the same address for the host and all guests.
 *
 * Guests lose everything from there up, so it should be as near to the top of vmalloc space as can be.
 * The kernel exports vmap() only, which takes the lowest free address. Three ways, best first:
 *
 * 1. "exact": the functions below vmap(), which take an address range and page rights, are not exported but
 *    can be found by a kprobe that is never armed.
 * 2. "fill": fill vmalloc space up with mappings of one page, free the topmost ones, vmap() there, and free
 *    the rest.
 * 3. "vmap": wherever vmap() likes. Right above low memory: a guest loses up to 128 MB of address space.
 *
 * vmap() maps nothing executable, so after 2 and 3 the entry of the text page is changed by hand.
 *
 * Whatever the way, the area must lie within one page-table page's reach, so that one such page can map it
 * for a guest.
 */
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/pgtable.h>

#include "lg_compat.h"
#include "lg_shim.h"

static struct page **area_pages;
static u32 area_page_count;
static void *area;
static const char *area_way;

/* ---------------------------------------------------------------- the functions below vmap() */

typedef struct vm_struct *get_vm_area_fn(unsigned long size, unsigned long flags, unsigned long start,
					 unsigned long end, const void *caller);

static void *find_function(const char *name)
{
	struct kprobe probe = { .symbol_name = name, .flags = KPROBE_FLAG_DISABLED };
	void *address;

	if (lg_should_fail() || register_kprobe(&probe))
		return NULL;
	address = probe.addr;
	unregister_kprobe(&probe);
	return address;
}

static void *map_exact(u32 size, u32 span)
{
	get_vm_area_fn *get_vm_area = find_function("__get_vm_area_caller");
	lg_map_pages_fn *map_pages = find_function(LG_MAP_PAGES);
	unsigned long end, start, text;
	struct vm_struct *vm = NULL;

	if (!get_vm_area || !map_pages)
		return NULL;
	if (lg_should_fail())
		return NULL;
	/* From the top down, one page table's reach at a time. */
	for (end = VMALLOC_END; !vm && end > VMALLOC_START; end = start) {
		start = max(round_down(end - 1, span), VMALLOC_START);
		/* A guard page belongs to it. */
		if (end - start > size)
			vm = get_vm_area(size, VM_MAP, start, end, __builtin_return_address(0));
	}
	if (!vm)
		return NULL;
	text = (unsigned long)vm->addr;
	if (lg_should_fail() || lg_map_pages(map_pages, text, text + PAGE_SIZE, PAGE_KERNEL_ROX, area_pages) ||
	    lg_should_fail() || lg_map_pages(map_pages, text + PAGE_SIZE, text + size, PAGE_KERNEL, area_pages + 1)) {
		/* Takes away what has been mapped as well. */
		free_vm_area(vm);
		return NULL;
	}
	return vm->addr;
}

/* ---------------------------------------------------------------- vmap() */

/* The first pages of the area, writable, at the lowest free address. */
static void *map_lowest(u32 pages)
{
	return lg_should_fail() ? NULL : vmap(area_pages, pages, VM_MAP, PAGE_KERNEL);
}

/* All of them within one page table's reach. */
static void *vmap_within(u32 size, u32 span)
{
	void *first = map_lowest(area_page_count);
	void *second;

	if (!first || round_down((unsigned long)first, span) == round_down((unsigned long)first + size - 1, span))
		return first;
	/* It lies across a boundary. The next free address is above. */
	second = map_lowest(area_page_count);
	vunmap(first);
	if (second && round_down((unsigned long)second, span) != round_down((unsigned long)second + size - 1, span)) {
		vunmap(second);
		return NULL;
	}
	return second;
}

/* Makes the text executable and read-only. Nobody has used the mapping, so no TLB holds it. */
static bool make_text(void *text)
{
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)text, &level);

	if (!pte || level != PG_LEVEL_4K)
		return false;
	set_pte(pte, pte_wrprotect(pte_mkexec(*pte)));
	return true;
}

static void *map_anywhere(u32 size, u32 span)
{
	void *address = vmap_within(size, span);

	if (address && !make_text(address)) {
		vunmap(address);
		return NULL;
	}
	return address;
}

/* One of the mappings that fill vmalloc space; each records the one below. */
struct filler {
	struct filler *below;
	void *address;
};

static void free_filler(struct filler **top)
{
	struct filler *filler = *top;

	*top = filler->below;
	vunmap(filler->address);
	kfree(filler);
}

static void *map_by_filling(u32 size, u32 span)
{
	struct filler *top = NULL;
	void *result = NULL;
	unsigned long goal = VMALLOC_END - 2 * size, middle = VMALLOC_START + (VMALLOC_END - VMALLOC_START) / 2;
	u32 i;

	for (;;) {
		struct filler *filler = lg_should_fail() ? NULL : kmalloc(sizeof(*filler), GFP_KERNEL);

		if (!filler)
			break;
		filler->address = map_lowest(1);
		if (!filler->address) {
			kfree(filler);
			break;
		}
		filler->below = top;
		top = filler;
		/* Far enough up. */
		if ((unsigned long)filler->address >= goal) {
			result = map_anywhere(size, span);
			break;
		}
	}
	/* The end of vmalloc space may be in use. The last fillers are below that. */
	while (!result && top && (unsigned long)top->address >= middle) {
		for (i = 0; i < area_page_count && top; i++)
			free_filler(&top);
		result = map_anywhere(size, span);
	}
	while (top)
		free_filler(&top);
	return result;
}

/* ---------------------------------------------------------------- all of it */

static const struct {
	const char *name;
	void *(*map)(u32 size, u32 span);
} ways[] = {
	{ "exact", map_exact },
	{ "fill", map_by_filling },
	{ "vmap", map_anywhere },
};

static void free_pages_of_area(void)
{
	while (area_page_count)
		__free_page(area_pages[--area_page_count]);
	kvfree(area_pages);
	area_pages = NULL;
}

asmlinkage unsigned long lg_area_create(u32 pages, u32 span, const void *text, u32 length)
{
	int i;

	area_pages = lg_should_fail() ? NULL : kvcalloc(pages, sizeof(*area_pages), GFP_KERNEL);
	if (!area_pages)
		goto no_memory;
	while (area_page_count < pages) {
		struct page *page = lg_should_fail() ? NULL : alloc_page(GFP_KERNEL | __GFP_ZERO);

		if (!page)
			goto no_memory;
		area_pages[area_page_count++] = page;
	}
	if (WARN_ON(length > PAGE_SIZE))
		goto failed;
	memcpy(page_address(area_pages[0]), text, length);

	for (i = 0; i < ARRAY_SIZE(ways) && !area; i++) {
		area = ways[i].map(pages * PAGE_SIZE, span);
		area_way = ways[i].name;
	}
	if (area) {
		pr_info("lg: the Switcher is at %px (way: %s)\n", area, area_way);
		return (unsigned long)area;
	}
	pr_err("lg: no room for %u pages in vmalloc space; boot with a larger vmalloc=, or lower max_guests\n", pages);
	goto failed;

no_memory:
	pr_err("lg: no memory for the %u pages of the Switcher\n", pages);
failed:
	free_pages_of_area();
	return 0;
}

asmlinkage void lg_area_destroy(void)
{
	vunmap(area);
	area = NULL;
	free_pages_of_area();
}

asmlinkage u32 lg_area_frame(u32 n)
{
	return page_to_pfn(area_pages[n]);
}

int lg_area_describe(char *to, size_t size)
{
	return scnprintf(to, size, "%px %s\n", area, area_way);
}
