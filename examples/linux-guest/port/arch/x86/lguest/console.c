// SPDX-License-Identifier: GPL-2.0
/*
 * Early console: until virtio's hvc0 takes over, the launcher is notified of
 * the address of each piece of text.
 */
#include <linux/console.h>
#include <linux/minmax.h>
#include <linux/string.h>

#include <asm/cmdline.h>
#include <asm/lguest.h>
#include <asm/page.h>
#include <asm/setup.h>
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

/*
 * As early as can be, unless the command line has `quiet`: Linux has not parsed
 * that yet, and would print all.
 */
static void __init register_at_once(void)
{
	if (!cmdline_find_option_bool(boot_command_line, "quiet"))
		register_console(&lguest_console);
}

static int __init register_later(void)
{
	if (!(lguest_console.flags & CON_ENABLED))
		register_console(&lguest_console);
	return 0;
}
console_initcall(register_later);

void __init lguest_init_console(void)
{
	x86_init.oem.arch_setup = register_at_once;
}
