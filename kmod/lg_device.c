// SPDX-License-Identifier: GPL-2.0-only
/* /dev/lguest: the file operations, each handed to Rust (src/device.rs). */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "lg_shim.h"

/* An open file. */
struct lg_file {
	/* Rust's object for it. */
	void *rust;
	struct work_struct release;
};

/* Where files are released that have much to give back. */
static struct workqueue_struct *lg_releases;

/*
 * The offset names the virtual CPU, of which there is one. It never moves, so that launchers may use read()
 * and write() as well as pread() and pwrite().
 */
static bool is_cpu_0(const loff_t *offset)
{
	return *offset == 0;
}

static void release_file(struct work_struct *work)
{
	struct lg_file *opened = container_of(work, struct lg_file, release);

	lg_rust_release(opened->rust);
	kfree(opened);
	atomic_dec(&lg_memory);
}

static int lg_open(struct inode *inode, struct file *file)
{
	struct lg_file *opened = lg_should_fail() ? NULL : kzalloc(sizeof(*opened), GFP_KERNEL_ACCOUNT);
	struct lg_user *user = opened ? lg_user_of(file) : NULL;

	if (user)
		opened->rust = lg_rust_open(user);
	if (!user || !opened->rust) {
		kfree(opened);
		return -ENOMEM;
	}
	atomic_inc(&lg_memory);
	INIT_WORK(&opened->release, release_file);
	file->private_data = opened;
	return 0;
}

/* A launcher that is killed is gone at once, however much its guest has mapped. */
static int lg_release(struct inode *inode, struct file *file)
{
	struct lg_file *opened = file->private_data;

	/* From here on nobody else has the file. */
	lg_rust_close_views(opened->rust);
	if (lg_rust_release_is_long(opened->rust))
		queue_work(lg_releases, &opened->release);
	else
		release_file(&opened->release);
	return 0;
}

static ssize_t lg_read(struct file *file, char __user *user, size_t size, loff_t *offset)
{
	struct lg_file *opened = file->private_data;

	return is_cpu_0(offset) ? lg_rust_read(opened->rust, (unsigned long)user, size) : -EINVAL;
}

static ssize_t lg_write(struct file *file, const char __user *user, size_t size, loff_t *offset)
{
	struct lg_file *opened = file->private_data;

	return is_cpu_0(offset) ? lg_rust_write(opened->rust, (unsigned long)user, size) : -EINVAL;
}

static const struct file_operations lg_fops = {
	/* While a file is open the module stays. */
	.owner = THIS_MODULE,
	.open = lg_open,
	.release = lg_release,
	.read = lg_read,
	.write = lg_write,
	.llseek = default_llseek,
};

/* Its group is the administrator's choice (udev/60-lguest.rules), root's until then. What each user may take: lg_user.c. */
static struct miscdevice lg_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lguest",
	.fops = &lg_fops,
	.mode = 0660,
};

int lg_device_init(void)
{
	int error = -ENOMEM;

	lg_releases = lg_should_fail() ? NULL : alloc_workqueue("lguest", WQ_UNBOUND, 0);
	if (lg_releases && !lg_should_fail())
		error = misc_register(&lg_device);
	if (!error)
		return 0;
	pr_err("lg: cannot register /dev/lguest (error %d)\n", error);
	if (lg_releases)
		destroy_workqueue(lg_releases);
	return error;
}

void lg_device_exit(void)
{
	misc_deregister(&lg_device);
	/* Waits for those that are being released. */
	destroy_workqueue(lg_releases);
}
