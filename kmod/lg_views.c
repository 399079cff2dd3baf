// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be read of a guest while it lives: a folder of debugfs for each, /sys/kernel/debug/lguest/PID-NUMBER, where PID is
 * the launcher's, from the guest's first moment to the last close of its file of /dev/lguest.
 *
 * A file's text is made when it is opened, of that moment, and belongs to whoever has opened it: what is read later, from any
 * place in the file, touches no guest. So only open() can meet the guest's end, and debugfs lets a file that is being opened not
 * go: lg_views_remove() waits for it. How the guest comes to stand still meanwhile is in lg_vcpu.c (visitors).
 *
 * Where debugfs is not there, or memory is short, the guest has no folder, and lives without.
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "lg_shim.h"

/* Much more than a dump of what a guest may have mapped by the default limits. */
#define LG_TEXT_MAX (32U << 20)

static const struct {
	const char *name;
	u32 view;
} lg_view_files[] = {
	{ "counters", LG_VIEW_COUNTERS },
	{ "directories", LG_VIEW_DIRECTORIES },
	{ "tables", LG_VIEW_TABLES },
};

struct lg_views {
	struct dentry *folder;
	struct lg_view {
		/* The open file of /dev/lguest, as Rust has it. */
		const void *file;
		u32 view;
	} views[ARRAY_SIZE(lg_view_files)];
};

struct lg_text {
	/* Rust's RawText: how long the text is, and the text. */
	u32 length;
	char bytes[];
};
static_assert(offsetof(struct lg_text, length) == 0 && offsetof(struct lg_text, bytes) == LG_TEXT_BYTES);

/* ---------------------------------------------------------------- texts */

asmlinkage struct lg_text *lg_text_create(u32 size, int *error)
{
	struct lg_text *text;

	*error = -EFBIG;
	if (size > LG_TEXT_MAX)
		return NULL;
	*error = -ENOMEM;
	text = lg_should_fail() ? NULL : kvmalloc(struct_size(text, bytes, size), GFP_KERNEL_ACCOUNT);
	if (!text)
		return NULL;
	text->length = size;
	atomic_inc(&lg_memory);
	return text;
}

asmlinkage void lg_text_destroy(struct lg_text *text)
{
	kvfree(text);
	atomic_dec(&lg_memory);
}

/* ---------------------------------------------------------------- the reader */

static int view_open(struct inode *inode, struct file *file)
{
	/* While this runs, debugfs does not let the file go. */
	const struct lg_view *view = inode->i_private;
	struct lg_text *text;
	long error = lg_rust_show(view->file, view->view, &text);

	if (error)
		return error;
	file->private_data = text;
	return 0;
}

static int view_release(struct inode *inode, struct file *file)
{
	lg_text_destroy(file->private_data);
	return 0;
}

static ssize_t view_read(struct file *file, char __user *user, size_t size, loff_t *offset)
{
	struct lg_text *text = file->private_data;

	return simple_read_from_buffer(user, size, offset, text->bytes, text->length);
}

static const struct file_operations view_fops = {
	/* While a file is open the module stays. */
	.owner = THIS_MODULE,
	.open = view_open,
	.release = view_release,
	.read = view_read,
	.llseek = default_llseek,
};

/* ---------------------------------------------------------------- the guest */

/* Creates everything of the folder, or nothing. */
static int create_files(struct lg_views *views, const char *name)
{
	struct dentry *made;
	int i;

	views->folder = lg_should_fail() ? ERR_PTR(-ENOMEM) : debugfs_create_dir(name, lg_debugfs);
	if (IS_ERR(views->folder))
		return PTR_ERR(views->folder);
	for (i = 0; i < ARRAY_SIZE(lg_view_files); i++) {
		/* "Unsafe" as an open file outlives its name here, which it needs nothing of any more. */
		made = ERR_PTR(-ENOMEM);
		if (!lg_should_fail())
			made = debugfs_create_file_unsafe(lg_view_files[i].name, 0400, views->folder, &views->views[i],
							  &view_fops);
		if (IS_ERR(made)) {
			debugfs_remove(views->folder);
			return PTR_ERR(made);
		}
	}
	return 0;
}

asmlinkage struct lg_views *lg_views_create(const void *file, u32 number, const struct lg_user *user)
{
	struct lg_views *views = lg_should_fail() ? NULL : kzalloc(sizeof(*views), GFP_KERNEL_ACCOUNT);
	int i, error = -ENOMEM;
	char name[32];

	if (!views)
		goto failed;
	for (i = 0; i < ARRAY_SIZE(lg_view_files); i++) {
		views->views[i].file = file;
		views->views[i].view = lg_view_files[i].view;
	}
	snprintf(name, sizeof(name), "%d-%u", task_tgid_nr(current), number);
	error = create_files(views, name);
	if (error)
		goto free_views;
	atomic_inc(&lg_memory);
	return views;

free_views:
	kfree(views);
failed:
	/* -ENODEV: the kernel has no debugfs. -EPERM: its administrator wants none. */
	if (error != -ENODEV && error != -EPERM && lg_log_for_user(user))
		pr_err("lg: no folder for a guest in debugfs (error %d)\n", error);
	return NULL;
}

asmlinkage void lg_views_remove(struct lg_views *views)
{
	/* Waits for those who are opening a file. */
	debugfs_remove(views->folder);
	kfree(views);
	atomic_dec(&lg_memory);
}

/* ---------------------------------------------------------------- load and unload */

struct dentry *lg_debugfs;

void lg_views_init(void)
{
	/* Without the folder, nothing is created in it. */
	lg_debugfs = lg_should_fail() ? ERR_PTR(-ENOMEM) : debugfs_create_dir("lguest", NULL);
}

void lg_views_exit(void)
{
	debugfs_remove(lg_debugfs);
}
