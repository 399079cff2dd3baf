// SPDX-License-Identifier: GPL-2.0
/*
 * Early console: until virtio's hvc0 takes over, the launcher is notified of
 * the address of each piece of text.
 */
#include <linux/console.h>
#include <linux/minmax.h>
#include <linux/string.h>

#include <asm/lguest.h>
#include <asm/page.h>
#include <asm/x86_init.h>

#include "port.h"

static void write_text(struct console *console, const char *text, unsigned int len)
{
	static char piece[256];

	while (len) {
		unsigned int part = min_t(unsigned int, len, sizeof(piece) - 1);

		memcpy(piece, text, part);
		piece[part] = '\0';
		lguest_hcall(LHCALL_NOTIFY, __pa_symbol(piece), 0, 0, 0);
		text += part;
		len -= part;
	}
}

static struct console lguest_console = {
	.name	= "lguest",
	.write	= write_text,
	.flags	= CON_PRINTBUFFER | CON_BOOT | CON_ANYTIME,
	.index	= -1,
};

static void __init register_early_console(void)
{
	register_console(&lguest_console);
}

void __init lguest_init_console(void)
{
	x86_init.oem.arch_setup = register_early_console;
}
