// SPDX-License-Identifier: GPL-2.0-only
/* /dev/lguest: the file operations, each handed to Rust (src/device.rs). */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "lg_shim.h"

/*
 * The offset names the virtual CPU, of which there is one. It never moves, so that launchers may use read()
 * and write() as well as pread() and pwrite().
 */
static bool is_cpu_0(const loff_t *offset)
{
	return *offset == 0;
}

static int lg_open(struct inode *inode, struct file *file)
{
	file->private_data = lg_rust_open();
	return file->private_data ? 0 : -ENOMEM;
}

static int lg_release(struct inode *inode, struct file *file)
{
	lg_rust_release(file->private_data);
	return 0;
}

static ssize_t lg_read(struct file *file, char __user *user, size_t size, loff_t *offset)
{
	return is_cpu_0(offset) ? lg_rust_read(file->private_data, (unsigned long)user, size) : -EINVAL;
}

static ssize_t lg_write(struct file *file, const char __user *user, size_t size, loff_t *offset)
{
	return is_cpu_0(offset) ? lg_rust_write(file->private_data, (unsigned long)user, size) : -EINVAL;
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

/* A guest pins pages for as long as it lives, whatever limits its launcher has: root's business only. */
static struct miscdevice lg_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lguest",
	.fops = &lg_fops,
	.mode = 0600,
};

int lg_device_init(void)
{
	int error = lg_should_fail() ? -ENOMEM : misc_register(&lg_device);

	if (error)
		pr_err("lg: cannot register /dev/lguest (error %d)\n", error);
	return error;
}

void lg_device_exit(void)
{
	misc_deregister(&lg_device);
}
