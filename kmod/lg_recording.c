// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest's recording on its way to user space: a ring of bytes, written by the guest's task and read through
 * a file of debugfs, /sys/kernel/debug/lguest/recordings/PID-NUMBER, where PID is the launcher's.
 *
 * The writer never waits: a piece that does not fit is refused, and the recorder (strategies/src/record)
 * records how much that was. A reader that waits is woken when a quarter of the ring is full.
 * One reader at a time; what it has read is gone. At the guest's end
 * the file goes, and the ring with it, unless a reader has the file open: it gets what is left and then the
 * end of file, and the ring goes when it closes the file.
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/kfifo.h>
#include <linux/kref.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#include "lg_compat.h"
#include "lg_shim.h"

#define LG_RECORDING_MIN 16
#define LG_RECORDING_MAX 65536
static unsigned int lg_recording_kib = 1024;

static int recording_kib_set(const char *value, const struct kernel_param *kp)
{
	int error = param_set_uint_minmax(value, kp, LG_RECORDING_MIN, LG_RECORDING_MAX);

	if (error)
		pr_err("lg: recording_kib=%s: %d to %d are possible\n", value, LG_RECORDING_MIN, LG_RECORDING_MAX);
	return error;
}

static const struct kernel_param_ops recording_kib_ops = { .set = recording_kib_set, .get = param_get_uint };
module_param_cb(recording_kib, &recording_kib_ops, &lg_recording_kib, 0644);
MODULE_PARM_DESC(recording_kib, "KiB for each guest's recording that is not read yet; a power of two (default 1024)");

struct lg_recording {
	/* The guest's, and that of an open file. */
	struct kref references;
	struct dentry *file;
	/* The file is open. */
	atomic_t taken;
	/* Written by the guest's task and read by who holds `reading`; that needs no other lock. */
	struct kfifo ring;
	void *memory;
	/* Whose it is, for as long as the ring is there. */
	struct lg_user *user;
	u32 size;
	/* Nothing more will be written. Set after the last write. */
	bool ended;
	struct mutex reading;
	wait_queue_head_t readers;
};

static struct dentry *lg_recordings;

static void free_recording(struct kref *references)
{
	struct lg_recording *recording = container_of(references, struct lg_recording, references);

	mutex_destroy(&recording->reading);
	vfree(recording->memory);
	lg_user_uncharge(recording->user, recording->size);
	lg_user_put(recording->user);
	kfree(recording);
	atomic_dec(&lg_memory);
}

/* ---------------------------------------------------------------- the reader */

static int recording_open(struct inode *inode, struct file *file)
{
	/* While this runs, debugfs does not let the file go, and with it the guest's reference. */
	struct lg_recording *recording = inode->i_private;

	if (atomic_cmpxchg(&recording->taken, 0, 1))
		return -EBUSY;
	kref_get(&recording->references);
	file->private_data = recording;
	return stream_open(inode, file);
}

static int recording_release(struct inode *inode, struct file *file)
{
	struct lg_recording *recording = file->private_data;

	atomic_set(&recording->taken, 0);
	kref_put(&recording->references, free_recording);
	return 0;
}

static bool has_news(struct lg_recording *recording)
{
	return smp_load_acquire(&recording->ended) || !kfifo_is_empty(&recording->ring);
}

static ssize_t recording_read(struct file *file, char __user *user, size_t size, loff_t *offset)
{
	struct lg_recording *recording = file->private_data;
	unsigned int copied = 0;
	int error;

	/* Threads may share the file. */
	error = mutex_lock_interruptible(&recording->reading);
	if (error)
		return error;
	if (!has_news(recording) && file->f_flags & O_NONBLOCK)
		error = -EAGAIN;
	else
		error = wait_event_interruptible(recording->readers, has_news(recording));
	if (!error)
		error = kfifo_to_user(&recording->ring, user, min_t(size_t, size, INT_MAX), &copied);
	mutex_unlock(&recording->reading);
	return error ? error : copied;
}

static const struct file_operations recording_fops = {
	/* While a file is open the module stays. */
	.owner = THIS_MODULE,
	.open = recording_open,
	.release = recording_release,
	.read = recording_read,
	.llseek = no_llseek,
};

/* ---------------------------------------------------------------- the guest */

asmlinkage struct lg_recording *lg_recording_create(u32 number, struct lg_plugin *plugin)
{
	struct lg_user *user = lg_plugin_user(plugin);
	struct lg_recording *recording = lg_should_fail() ? NULL : kzalloc(sizeof(*recording), GFP_KERNEL_ACCOUNT);
	u32 size = rounddown_pow_of_two(READ_ONCE(lg_recording_kib)) << 10;
	char name[32];

	if (!recording)
		return NULL;
	if (!lg_plugin_charge_user(plugin, size)) {
		if (lg_log_for_user(user))
			pr_err("lg: no memory for a recording of %u KiB: a user's guests may take user_kib together\n", size >> 10);
		kfree(recording);
		return NULL;
	}
	recording->memory = lg_should_fail() ? NULL : __vmalloc(size, GFP_KERNEL_ACCOUNT);
	if (!recording->memory || kfifo_init(&recording->ring, recording->memory, size)) {
		if (lg_log_for_user(user))
			pr_err("lg: no memory for a recording; recording_kib=%u may be too large\n", size >> 10);
		goto failed;
	}
	recording->user = lg_user_get(user);
	recording->size = size;
	kref_init(&recording->references);
	mutex_init(&recording->reading);
	init_waitqueue_head(&recording->readers);

	snprintf(name, sizeof(name), "%d-%u", task_tgid_nr(current), number);
	/* "Unsafe" as an open file outlives its name here, which the references see to. */
	recording->file = ERR_PTR(-ENOMEM);
	if (!lg_should_fail())
		recording->file = debugfs_create_file_unsafe(name, 0400, lg_recordings, recording, &recording_fops);
	if (!IS_ERR(recording->file)) {
		atomic_inc(&lg_memory);
		return recording;
	}
	if (lg_log_for_user(user))
		pr_err("lg: no file for a recording in debugfs (error %ld)\n", PTR_ERR(recording->file));
	mutex_destroy(&recording->reading);
	lg_user_put(user);
failed:
	vfree(recording->memory);
	lg_user_uncharge(user, size);
	kfree(recording);
	return NULL;
}

asmlinkage bool lg_recording_write(struct lg_recording *recording, const void *piece, u32 size)
{
	/* Room for a report of how much has been lost. */
	u32 kept = size > LG_LAST_WORDS ? LG_LAST_WORDS : 0;

	if (kfifo_avail(&recording->ring) < size + kept)
		return false;
	kfifo_in(&recording->ring, piece, size);
	/*
	 * A switch to the reader and back costs more than a piece does. So it is woken when there is enough to be
	 * worth that, or something short: the recording's beginning, or the note of a loss.
	 */
	if (size <= LG_LAST_WORDS || kfifo_len(&recording->ring) >= kfifo_size(&recording->ring) / 4)
		wake_up_interruptible(&recording->readers);
	return true;
}

asmlinkage void lg_recording_end(struct lg_recording *recording)
{
	smp_store_release(&recording->ended, true);
	wake_up_interruptible(&recording->readers);
	debugfs_remove(recording->file);
	kref_put(&recording->references, free_recording);
}

/* ---------------------------------------------------------------- load and unload */

void lg_recording_init(void)
{
	/* Without the folder there is none, and the creation of a recording fails. */
	lg_recordings = lg_should_fail() ? ERR_PTR(-ENOMEM) : debugfs_create_dir("recordings", lg_debugfs);
}

void lg_recording_exit(void)
{
	debugfs_remove(lg_recordings);
}
